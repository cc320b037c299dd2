r"""Hierarchical VAE: many layers of latents in residual cells, inferred from both directions, as in VDVAE and NVAE.

Objective, in nats per example: the negative elbo,
:math:`-\mathbb E\log p(x|z) + \sum_l \mathbb E\,\mathrm{KL}(q(z_l|z_{<l}, x)\,\|\,p(z_l|z_{<l}))`, each layer's KL in closed form
given those above it. Layers count from the top, the coarsest image. The scales are bounded smoothly, and ``--skip_norm``
leaves out steps of too large a gradient.

Source: Child 2021, Very deep VAEs, section 3 and figure 3; Vahdat & Kautz 2020 (NVAE), section 3; Kingma et al. 2016 (bidirectional
inference).
Command: ``python experiments/run.py --model=hierarchical_vae``
Result: digits, test: KL of the layers from the top 3.0, 4.1, 9.5, 0.0, 0.0, 0.0; elbo -85.4; log-likelihood -81.3 (K = 100).
"""

from __future__ import annotations

import itertools
import re
from typing import Literal

from vaex import nets
from vaex.configuration import option, options
from vaex.core import Recipe
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.hierarchies import _hierarchy as hierarchy
from vaex.models.hierarchies._hierarchy import HParams

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {"blocks": "2x2", "width": 4, "latent_channels": 1}
EXAMPLE = "such as 14x2,7x3:64,1x1: two layers at 14x14, three at 7x7 with 64 channels, one at 1x1"


@options
class Config(hierarchy.Config):
    """Options of the hierarchical VAE."""

    blocks: str = option(
        "auto",
        doc="Layers as SIDExCOUNT or SIDExCOUNT:WIDTH, from fine to coarse, such as 14x2,7x3,1x1; the side is the "
        "image's shorter one at that resolution. auto halves it down to 1, two layers each.",
    )
    width: int = option(32, low=1, doc="Number of channels of the layers to which blocks gives no width.")
    latent_channels: int = option(4, low=1, doc="Number of channels of the latents in each layer.")
    activation: str = option(
        "silu", doc="Activation function: relu, tanh, gelu, silu, elu, softplus, leaky_relu or sigmoid."
    )
    compute: Literal["float32", "bfloat16"] = option(
        "float32",
        doc="Precision of the cells; with bfloat16 what they keep for the gradient takes half the memory, while "
        "parameters, latents and the loss stay float32.",
    )
    remat: bool = option(
        False,
        doc="Recompute the inside of each cell in the gradient instead of keeping it, for more time and less memory.",
    )
    scan: bool = option(
        True,
        doc="Run more than eight layers of equal shape as one loop, which compiles sooner; else each is written out.",
    )

    def check(self) -> None:
        super().check()
        nets.activation_function(self.activation)
        parse_blocks(self.blocks, self.width, side=None)


def parse_blocks(blocks: str, width: int, side: int | None) -> list[tuple[int, int, int]]:
    """(side, layers, channels) of each resolution, from the finest.

    Args:
      blocks: as ``Config.blocks``.
      width: channels where none are given.
      side: of the images; None where it is not known yet, for which auto gives [].
    Raises: UserError for what can't be read, or resolutions that don't fall from at most the image's own.
    Example:
      >>> parse_blocks("14x2,7x3:64,1x1", 32, side=28)
      [(14, 2, 32), (7, 3, 64), (1, 1, 32)]
      >>> parse_blocks("auto", 32, side=8)
      [(4, 2, 32), (2, 2, 32), (1, 2, 32)]
    """
    if blocks == "auto":
        sides = [] if side is None else [side >> power for power in range(1, side.bit_length())] or [1]
        return [(side_of_level, 2, width) for side_of_level in sides]
    parsed = []
    for part in blocks.split(","):
        match = re.fullmatch(r"(\d+)x(\d+)(?::(\d+))?", part.strip())
        numbers = [int(number) for number in match.groups(str(width))] if match else [0]
        if min(numbers) < 1:
            raise UserError(f"--blocks={blocks}: {part.strip()!r} is not SIDExCOUNT or SIDExCOUNT:WIDTH of numbers from 1; "
                            f"write {EXAMPLE}")  # fmt: skip
        parsed.append((numbers[0], numbers[1], numbers[2]))
    sides = [block[0] for block in parsed]
    if any(fine <= coarse for fine, coarse in itertools.pairwise(sides)):
        raise UserError(f"--blocks={blocks}: expected sides that fall from fine to coarse, each once; write {EXAMPLE}")
    if side is not None and sides[0] > side:
        raise UserError(
            f"--blocks={blocks}: the images' shorter side is {side}, so a resolution of {sides[0]} is finer than they are; "
            f"begin with at most {side}, or use --blocks=auto"
        )
    return parsed


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of the hierarchical VAE for data of this spec.

    Raises: UserError for data other than images, or blocks that don't fit them.
    """
    if len(spec.shape) != 3:
        raise UserError(f"--model=hierarchical_vae needs images, but {spec.name} has examples of shape {spec.shape}; use "
                        "--model=ladder_vae")  # fmt: skip
    height, width, channels = spec.shape
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean)
    side = min(height, width)
    levels = tuple(
        nets.Level((max(1, round(height * level_side / side)), max(1, round(width * level_side / side))), count, wide)
        for level_side, count, wide in parse_blocks(config.blocks, config.width, side)
    )
    network = nets.TopDownNetwork(
        spec.shape,  # type: ignore[arg-type]
        levels,
        config.latent_channels,
        channels * likelihood.channels,
        config.activation,
        config.compute,
        config.remat,
        config.scan,
    )
    return hierarchy.recipe(network, config, spec, likelihood)
