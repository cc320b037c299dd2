r"""The networks of autoencoders with maps of codes, at one level or several.

Levels are counted from the data, 0 the finest. Features go up, :math:`h_0 = f_0(x), h_{l+1} = f_{l+1}(h_l)`; then from the top
down the code :math:`c_l` is chosen by :math:`W_l[h_l, u_{l+1}]`, and :math:`u_l = g_l([c_l, u_{l+1}])`, of which the last one,
:math:`u_0`, is what the likelihood takes. Networks of images and series are residual convolutions, with kernels of two axes or one;
a vector [d] has one level, whose MLP gives the vectors of all its codes at once, so that there is no :math:`W_0`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import nets
from vaex.core import PyTree
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.nets.grids import grid_sizes

AXES = {1: "vectors", 2: "series", 3: "images"}  # of an example's shape


class Points(NamedTuple):
    """An MLP from vectors to several vectors, [b, n, d]; a ``nets.Network``.

    ``shape``: (n, d).
    """

    shape: tuple[int, int]
    network: nets.MLP

    def init(self, rngs: jax.Array, /, *inputs: jax.Array | None) -> Mapping[str, PyTree]:
        """Return the first variables of the MLP."""
        return self.network.init(rngs, *inputs)

    def apply(self, variables: Mapping[str, PyTree], /, *inputs: jax.Array | None) -> jax.Array:
        """[b, ...] -> [b, n, d]."""
        flat: Any = self.network.apply(variables, *inputs)
        return flat.reshape(*flat.shape[:-1], *self.shape)


class Level(NamedTuple):
    """One map: its side lengths, its networks, and where its codes stand among all: from ``start`` to ``stop``.

    ``head``: None where the encoder gives the vectors of codes itself.
    """

    size: tuple[int, ...]
    encoder: nets.Network
    head: nets.Network | None
    decoder: nets.Network
    start: int
    stop: int


class Sizing(NamedTuple):
    """Sizes of the networks: of convolutions, and of the MLPs of vectors; and what they join.

    Attributes:
      channels, blocks: of residual convolutions.
      hidden: widths of an MLP.
      activation: name.
      dim: length of a code's vector.
      slots: codes per vector.
      raw: numbers that the likelihood takes for each value.
    """

    channels: int
    blocks: int
    hidden: tuple[int, ...]
    activation: str
    dim: int
    slots: int
    raw: int


Levels = tuple[Level, ...]
# level, and what comes down from above it, None at the top -> vectors of codes [b, h', w', d]
Choose = Callable[[int, jax.Array | None], jax.Array]


def levels(spec: Spec, factors: tuple[int, ...], sizing: Sizing) -> Levels:
    """The levels of an autoencoder of data of this spec, from the data up.

    Args:
      spec: of the data.
      factors: by which each level is smaller than the one below it, the lowest than an image on each side or a series: powers of
        two; or by which the codes of a vector are fewer than its entries.
      sizing: of the networks.
    Raises: UserError where data are of another kind or too small, or a factor does not fit them.
    """
    if len(spec.shape) not in AXES:
        raise UserError(
            f"codes are of vectors, series and images, but {spec.name} has examples of shape {spec.shape}; read them with "
            "--kind=table, or use --model=gumbel_vae"
        )
    levels = (
        _levels_of_vectors(spec, factors, sizing) if len(spec.shape) == 1 else _levels_of_grids(spec, factors, sizing)
    )
    stop = 0
    for index in reversed(range(len(levels))):  # the top map's codes come first
        levels[index] = levels[index]._replace(start=stop, stop=stop + levels[index].stop)
        stop = levels[index].stop
    return tuple(levels)


def _levels_of_vectors(spec: Spec, factors: tuple[int, ...], sizing: Sizing) -> list[Level]:
    if len(factors) != 1:
        raise UserError(f"vectors have no maps at several levels, and {spec.name} holds vectors; use --model=vq_vae")
    size, factor = spec.shape[0], factors[0]
    if factor < 1 or factor > size:
        raise UserError(f"--downsampling={factor}: expected 1 to {size}, as {spec.name} has vectors of {size} entries")
    count = size // factor
    encoder = nets.MLP(sizing.hidden, count * sizing.dim, sizing.activation)
    decoder = nets.MLP(sizing.hidden[::-1], size * sizing.raw, sizing.activation, event_ndims=2)
    return [Level((count,), Points((count, sizing.dim), encoder), None, decoder, 0, count * sizing.slots)]


def _levels_of_grids(spec: Spec, factors: tuple[int, ...], sizing: Sizing) -> list[Level]:
    """Levels of images, or of series; ``stop`` of each counts its codes."""
    text = "x".join(map(str, factors))
    if not factors or any(factor < 2 or factor & (factor - 1) for factor in factors):
        raise UserError(f"--downsampling={text}: expected powers of two, such as 4")
    *sides, features = spec.shape
    stages = [factor.bit_length() - 1 for factor in factors]
    sizes = grid_sizes(tuple(sides), sum(stages)) if min(sides) >= 4 else (tuple(sides),)
    if len(sizes) <= sum(stages):
        side = "x".join(map(str, sides)) if len(sides) > 1 else f"{sides[0]} steps"
        least = "on a side" if len(sides) > 1 else "along time"
        raise UserError(
            f"--downsampling={text}: {AXES[len(spec.shape)]} of {side} can be made smaller {2 ** (len(sizes) - 1)} times at most, "
            f"as a map has at least 2 codes {least}; give less"
        )
    levels, before = [], 0
    for index, halvings in enumerate(stages):
        shape = (*sizes[before], sizing.channels if index else features * sizing.raw)
        common: dict[str, Any] = {
            "channels": sizing.channels,
            "stages": halvings,
            "blocks": sizing.blocks,
            "activation": sizing.activation,
        }
        networks = (
            nets.ResidualEncoder(**common, axes=len(sides)),
            nets.MLP((), sizing.dim),
            nets.ResidualDecoder(shape=shape, **common),
        )
        before += halvings
        levels.append(Level(sizes[before], *networks, 0, math.prod(sizes[before]) * sizing.slots))
    return levels


def apply(networks: Levels, params: PyTree, index: int, name: str, x: jax.Array) -> jax.Array:
    """What a level's encoder, head or decoder makes of x, which stays as it is where there is no head."""
    network = getattr(networks[index], name)
    return x if network is None else network.apply({"params": params[f"level_{index}"][name]}, x)


def upwards(networks: Levels, params: PyTree, x: jax.Array) -> list[jax.Array]:
    """Features of each level, from the data up."""
    features = [x]
    for index in range(len(networks)):
        features.append(apply(networks, params, index, "encoder", features[-1]))
    return features[1:]


def downwards(networks: Levels, params: PyTree, choose: Choose) -> jax.Array:
    """The decoders from the top down, on the codes chosen at each level: u_0, the likelihood's numbers of x."""
    above = None
    for index in reversed(range(len(networks))):
        above = apply(networks, params, index, "decoder", beside(choose(index, above), above))
    assert above is not None  # there is at least one level
    return above


def beside(x: jax.Array, above: jax.Array | None) -> jax.Array:
    """x with the channels of what comes from above, if there is anything."""
    return x if above is None else jnp.concatenate([x, above], axis=-1)
