r"""VQ-VAE: integer codes of images, series or vectors, then a transformer that learns their distribution and draws new ones.

Stage "model", in nats per example:
:math:`-\log p(x|c) + \sum_i |\mathrm{sg}[z_i] - c_i|^2 + \beta\sum_i |z_i - \mathrm{sg}[c_i]|^2`, where :math:`c_i` is the code
nearest to :math:`z_i`, gradients pass from it to :math:`z_i` straight through or by rotation, and the second term is left out
where moving averages move the codes (``--codebook=ema``). Codes that are hardly used are put on vectors of the batch.
``--quantizer``: residual and grouped ones have several codes per vector (``--quantizer_dropout`` trains residual ones to decode by
the first few), finite_scalar and lookup_free no codebook, the latter an entropy loss. Its elbo counts with a uniform prior over
codes. Stage "prior": :math:`-\sum_i\log p(c_i|c_{<i})`, with ``--class_conditional`` given the label; the whole has the elbo
:math:`\log p(x|c) + \log p(c)`, a bound on log p(x).

Images have a map of codes, series [t, c] a row of them, by residual convolutions of as many axes; the codes of a vector [d], or of
a row of a table, are d over ``--downsampling``, by an MLP of ``--hidden``, without an order of their own.

A loaded run's ``encode`` gives integers [h', w'] or [n'], with one more axis for several codebooks, and ``decode`` takes them; of
residual codebooks the first few alone, where the codes of the others are -1.

Source: van den Oord, Vinyals & Kavukcuoglu 2017, eq. 3 and appendix A.1; Zeghidour et al. 2021 (residual, dead codes);
Mentzer et al. 2024 (FSQ); Yu et al. 2024 (LFQ); Fifty et al. 2025 (rotation).
Command: ``python experiments/run.py --model=vq_vae``
Result: digits, validation: perplexity 113.8 of 128, all used; 5.51 bits a code; log p(x) >= -118.1 (2.66 bits per dimension).
"""

from __future__ import annotations

from typing import Any

from vaex.configuration import option, options
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.models.codebooks import _code_figures as code_figures
from vaex.models.codebooks import _code_maps as code_maps
from vaex.models.codebooks import _code_prior as code_prior
from vaex.models.codebooks._code_prior import DEFAULTS, HParams

__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]

TINY: dict[str, Any] = {**code_prior.TINY, "downsampling": 2}


@options
class Config(code_prior.Config):
    """Options of the VQ-VAE."""

    downsampling: int = option(
        2,
        low=1,
        doc="Factor by which the map of codes is smaller than the image on each side, or than a series in time, a power of two; or "
        "by which the codes of a vector are fewer than its entries.",
    )


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the VQ-VAE for images, series or vectors of this spec.

    Raises: UserError where the data are of another kind or too small, or lack the labels that the prior is to see.
    """
    vq = code_maps.code_maps(config, spec, (config.downsampling,))
    return code_prior.two_stages(config, spec, vq, code_figures.figures)
