r"""The networks of autoencoders with maps of codes, at one level or several.

Levels are counted from the image, 0 the finest. Features go up, :math:`h_0 = f_0(x), h_{l+1} = f_{l+1}(h_l)`; then from the top
down the code :math:`c_l` is chosen by :math:`W_l[h_l, u_{l+1}]`, and :math:`u_l = g_l([c_l, u_{l+1}])`, of which the last one,
:math:`u_0`, is what the likelihood takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import nets
from vaex.core import PyTree
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.nets.convnets import stage_sizes


class Level(NamedTuple):
    """One map: its side lengths, its networks, and where its codes stand among all: from ``start`` to ``stop``."""

    size: tuple[int, int]
    encoder: nets.ResidualEncoder
    head: nets.MLP
    decoder: nets.ResidualDecoder
    start: int
    stop: int


Levels = tuple[Level, ...]
# level, and what comes down from above it, None at the top -> vectors of codes [b, h', w', d]
Choose = Callable[[int, jax.Array | None], jax.Array]


def levels(
    spec: Spec, factors: tuple[int, ...], *, dim: int, slots: int, raw: int, channels: int, blocks: int, activation: str
) -> Levels:
    """The levels of an autoencoder of images of this spec, from the image up.

    Args:
      spec: of the data.
      factors: by which each level is smaller than the one below it, the lowest than the image: powers of two.
      dim: length of a code's vector; slots: codes per vector.
      raw: numbers that the likelihood takes for each value.
      channels, blocks, activation: of the networks.
    Raises: UserError where the data are no images or too small, or a factor is no power of two.
    """
    text = "x".join(map(str, factors))
    if len(spec.shape) != 3:
        raise UserError(
            f"maps of codes are made of images, but {spec.name} has examples of shape {spec.shape}; gumbel_vae takes any"
        )
    if not factors or any(factor < 2 or factor & (factor - 1) for factor in factors):
        raise UserError(f"--downsampling={text}: expected powers of two, such as 4")
    height, width, colors = spec.shape
    stages = [factor.bit_length() - 1 for factor in factors]
    sizes = stage_sizes(height, width, sum(stages)) if min(height, width) >= 4 else ((height, width),)
    if len(sizes) <= sum(stages):
        raise UserError(
            f"--downsampling={text}: images of {height}x{width} can be made smaller {2 ** (len(sizes) - 1)} times at most, "
            "as a map has at least 2 codes on a side; give less"
        )
    levels, before, stop = [], 0, 0
    for index, halvings in enumerate(stages):
        shape = (*sizes[before], channels if index else colors * raw)
        sizing: dict[str, Any] = {"channels": channels, "stages": halvings, "blocks": blocks, "activation": activation}
        networks = nets.ResidualEncoder(**sizing), nets.MLP((), dim), nets.ResidualDecoder(shape=shape, **sizing)
        before += halvings
        levels.append(Level(sizes[before], *networks, 0, math.prod(sizes[before]) * slots))
    for index in reversed(range(len(levels))):  # the top map's codes come first
        levels[index] = levels[index]._replace(start=stop, stop=stop + levels[index].stop)
        stop = levels[index].stop
    return tuple(levels)


def apply(networks: Levels, params: PyTree, index: int, name: str, x: jax.Array) -> jax.Array:
    """What a level's encoder, head or decoder makes of x."""
    return getattr(networks[index], name).apply({"params": params[f"level_{index}"][name]}, x)


def upwards(networks: Levels, params: PyTree, x: jax.Array) -> list[jax.Array]:
    """Features of each level, from the image up."""
    features = [x]
    for index in range(len(networks)):
        features.append(apply(networks, params, index, "encoder", features[-1]))
    return features[1:]


def downwards(networks: Levels, params: PyTree, choose: Choose) -> jax.Array:
    """The decoders from the top down, on the codes chosen at each level: u_0 [b, h, w, raw numbers]."""
    above = None
    for index in reversed(range(len(networks))):
        above = apply(networks, params, index, "decoder", beside(choose(index, above), above))
    assert above is not None  # there is at least one level
    return above


def beside(x: jax.Array, above: jax.Array | None) -> jax.Array:
    """x with the channels of what comes from above, if there is anything."""
    return x if above is None else jnp.concatenate([x, above], axis=-1)
