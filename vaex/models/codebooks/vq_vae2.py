r"""VQ-VAE-2: maps of codes at two or more levels, and one transformer that learns all of them, the top level first.

Stage "model", in nats per example, sums the terms of ``vq_vae`` over levels:
:math:`-\log p(x|c_1..c_L) + \sum_{l,i} |\mathrm{sg}[z_{l,i}] - c_{l,i}|^2 + \beta\sum_{l,i} |z_{l,i} - \mathrm{sg}[c_{l,i}]|^2`;
the vectors of a level see the codes above it, the decoder sees all. Stage "prior":
:math:`-\log p(c_L) - \sum_{l<L}\log p(c_l|c_{>l})`, each code given all before it, those of the levels above among them, and with
``--class_conditional`` the label; by one causal transformer in place of the paper's PixelCNN per level. The whole has the elbo
:math:`\log p(x|c) + \log p(c)`, a bound on log p(x).
Metrics of a level end in its number, counted from the image: ``kl_1`` is of the level above the finest.

A loaded run's ``encode`` gives integers [n], the top map first and each row by row, and ``decode`` takes them.

Source: Razavi, van den Oord & Vinyals 2019, sections 3.1 and 3.2.
Command: ``python experiments/run.py --model=vq_vae2``
Result: digits, validation: perplexity 103.4 and 120.9 of 128; 6.65 bits a code; log p(x) >= -142.1 (3.20 bits per dimension).
"""

from __future__ import annotations

from typing import Any

from vaex.configuration import option, options
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models.codebooks import _code_figures as code_figures
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import _code_prior as code_prior
from vaex.models.codebooks._code_prior import DEFAULTS, HParams

__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]

TINY: dict[str, Any] = {**code_prior.TINY, "downsampling": (2, 2)}


@options
class Config(code_prior.Config):
    """Options of the VQ-VAE-2."""

    downsampling: tuple[int, ...] = option(
        (2, 2),
        low=1,
        doc="Factor by which the finest map of codes is smaller than the image on each side, or than a series in time, and each "
        "further map smaller than the one before; powers of two.",
    )

    def check(self) -> None:
        super().check()
        if len(self.downsampling) < 2:
            text = "x".join(map(str, self.downsampling))
            raise UserError(f"--downsampling={text}: expected a factor for each of two levels or more, such as 4x2")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the VQ-VAE-2 for images or series of this spec.

    Raises: UserError where the data are of another kind or too small, or lack the labels that the prior is to see.
    """
    vq = code_maps.code_maps(config, spec, config.downsampling)
    return code_prior.two_stages(config, spec, vq, code_figures.level_figures)
