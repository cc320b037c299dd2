"""The network of a deep hierarchy of latents over images: activations from the bottom up, residual cells from the top down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaex.core import PyTree
from vaex.nets.conv import Conv, ConvTranspose
from vaex.nets.initializers import draw_parameters, fan_in_deviation
from vaex.nets.protocols import Network, Source, TopDownPass
from vaex.nets.residual_cells import LayerLatents, ResidualCell, TopDownCell, square_conv
from vaex.nets.resize import from_patches, resize, to_patches
from vaex.ops.platforms import traced_for, unroll

UNROLLED = 8  # most equal cells that are computed without a loop, which copies what the reverse pass needs
# (parameters of the cell, x, its input) -> (x, its result)
Cell = Callable[[PyTree, jax.Array, PyTree], tuple[jax.Array, PyTree]]


class Level(NamedTuple):
    """The cells at one resolution.

    Attributes:
      shape: (h, w) of the feature maps.
      cells: how many, each a layer of latents.
      width: channels of the feature maps.
    """

    shape: tuple[int, int]
    cells: int
    width: int


@dataclass(frozen=True)
class TopDownNetwork:
    """Hierarchical network of residual cells over images; see ``HierarchicalNetwork``. Cells of one level have stacked parameters.

    Attributes:
      image: (h, w, c).
      levels: from the finest to the coarsest; no side exceeds that of the level before, or of the image.
      latents: channels of z in each cell.
      outputs: raw numbers per pixel of the output.
      activation: name, see ``activation_function``.
      dtype: of the computation in the cells, "float32" or "bfloat16"; parameters, latents and outputs are float32.
      remat: the gradient recomputes what is inside a cell instead of keeping it. A loop on a CPU always does, which is faster than
        copying what it needs.
      scan: more than ``UNROLLED`` cells of one level are a loop, which compiles once, and with ``remat`` any number on a CPU, where
        only a loop saves memory; otherwise cells are written out one after the other.
    Example:
      >>> network = TopDownNetwork((8, 8, 1), (Level((4, 4), 2, 8), Level((1, 1), 1, 8)), latents=2, outputs=1)
      >>> network.sizes
      (2, 32, 32)

    References: Child 2021 (VDVAE), section 3 and figure 3.
    """

    image: tuple[int, int, int]
    levels: tuple[Level, ...]
    latents: int
    outputs: int
    activation: str = "silu"
    dtype: str = "float32"
    remat: bool = False
    scan: bool = True

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of z in each layer, from the top."""
        return tuple(
            math.prod(level.shape) * self.latents for level in reversed(self.levels) for _ in range(level.cells)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Size of the feature map of each layer, from the top, as 4x4."""
        return tuple("x".join(map(str, level.shape)) for level in reversed(self.levels) for _ in range(level.cells))

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Return the parameters, and () as there are no statistics of batches."""
        finest, above = self.levels[0], None
        deviations: dict[str, PyTree] = {
            "stem": _deviations(self._stem(), jnp.zeros((1, *self.image))),
            "output": _deviations(self._output(), jnp.zeros((1, *finest.shape, finest.width))),
        }
        for index in reversed(range(len(self.levels))):
            deviations[f"level_{index}"] = self._level_deviations(index, above)
            above = self.levels[index]
        return draw_parameters(key, deviations), ()

    def bottom_up(
        self, params: PyTree, statistics: PyTree, x: jax.Array, *, train: bool = False
    ) -> tuple[tuple[jax.Array, ...], PyTree]:
        """Return activations of images x [b, h, w, c] at each level, from the finest; and the statistics unchanged."""
        features = resize(_apply(self._stem(), params["stem"], x), self.levels[0].shape)
        activations = []
        for index, level in enumerate(self.levels):
            level_params, cell = params[f"level_{index}"], self._bottom_up_cell(level)
            features = self._to_coarser(level_params, index, features) if index else features
            features, _ = self._through_cells(cell, level_params["up"], level, features)
            activations.append(features)
        return tuple(activations), statistics

    def top_down(
        self, params: PyTree, code: jax.Array, activations: tuple[jax.Array, ...] | None, source: Source
    ) -> TopDownPass:
        """Return latents, priors and posteriors of every layer; see ``HierarchicalNetwork.top_down``."""
        leading, flat = code.shape[:-1], code.reshape(-1, code.shape[-1])
        finest, top = self.levels[0], self.levels[-1]
        x, start, layers = jnp.zeros((flat.shape[0], *top.shape, top.width), jnp.dtype(self.dtype)), 0, []
        for index in reversed(range(len(self.levels))):
            level_params, level = params[f"level_{index}"], self.levels[index]
            x = (x if level is top else self._to_finer(level_params, index, x)) + level_params["bias"].astype(x.dtype)
            stop = start + level.cells * math.prod(level.shape) * self.latents
            codes = flat[:, start:stop].reshape(flat.shape[0], level.cells, *level.shape, self.latents)
            repeated = None if activations is None else _repeat(activations[index], leading)
            cell = self._top_down_cell(level, repeated, source)
            x, results = self._through_cells(cell, level_params["down"], level, x, jnp.moveaxis(codes, 1, 0))
            layers.append(jax.tree.map(lambda stacked: jnp.moveaxis(stacked, 0, 1).reshape(flat.shape[0], -1), results))
            start = stop
        features = x.reshape(*leading, *finest.shape, finest.width)
        return TopDownPass(features, *join_layers(layers, code.shape))

    def output(self, params: PyTree, features: jax.Array) -> jax.Array:
        """Return images [..., h, w, outputs] from features [..., h', w', c']."""
        flat = features.reshape(-1, *features.shape[-3:]).astype(jnp.float32)
        coarse = (-(-self.image[0] // self._stride), -(-self.image[1] // self._stride))
        raw = _apply(self._output(), params["output"], resize(flat, coarse))
        raw = raw[:, : self.image[0], : self.image[1]]
        return raw.reshape(*features.shape[:-3], *raw.shape[1:])

    def _level_deviations(self, index: int, above: Level | None) -> PyTree:
        """Parameters of a level as standard deviations, those of its cells stacked."""
        level = self.levels[index]
        x, code = jnp.zeros((1, *level.shape, level.width)), jnp.zeros((1, *level.shape, self.latents))
        residual, top_down = self._cells(level)
        cells = {"up": _deviations(residual, x), "down": _deviations(top_down, x, code, x, "posterior")}
        params = {
            **jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (level.cells, *leaf.shape)), cells),
            "bias": jnp.zeros((*level.shape, level.width)),
        }
        if index:
            below = self.levels[index - 1]
            size = math.prod(_ratio(below, level)) * below.width
            params["from_below"] = _deviations(self._linear(level.width), jnp.zeros((1, 1, 1, size)))
        if above is not None:
            size = math.prod(_ratio(level, above)) * level.width
            params["from_above"] = _deviations(self._linear(size), jnp.zeros((1, 1, 1, above.width)))
        return params

    @property
    def _stride(self) -> int:
        return max(1, min(self.image[:2]) // min(self.levels[0].shape))

    def _stem(self) -> Conv:
        s = self._stride
        return Conv(
            self.levels[0].width,
            (s + 2, s + 2),
            strides=s,
            dtype=jnp.dtype(self.dtype),
            kernel_init=fan_in_deviation(),
        )

    def _output(self) -> ConvTranspose:
        s = self._stride
        return ConvTranspose(self.outputs, (s + 2, s + 2), strides=(s, s), kernel_init=fan_in_deviation(float(s * s)))

    def _linear(self, features: int) -> nn.Dense | Conv:
        return square_conv(features, 1, jnp.dtype(self.dtype))

    def _cells(self, level: Level) -> tuple[ResidualCell, TopDownCell]:
        """The cells of the bottom-up and the top-down pass."""
        kernel = 3 if min(level.shape) > 2 else 1
        settings = (max(1, level.width // 2), kernel, self.activation, jnp.dtype(self.dtype), 1.0 / len(self.sizes))
        return ResidualCell(*settings), TopDownCell(self.latents, *settings)

    def _bottom_up_cell(self, level: Level) -> Cell:
        module, _ = self._cells(level)

        def cell(params: PyTree, x: jax.Array, _: None) -> tuple[jax.Array, None]:
            return _apply(module, params, x), None

        return cell

    def _top_down_cell(self, level: Level, activations: jax.Array | None, source: Source) -> Cell:
        _, module = self._cells(level)

        def cell(params: PyTree, x: jax.Array, code: jax.Array) -> tuple[jax.Array, LayerLatents]:
            return _apply(module, params, x, code, activations, source)

        return cell

    def _to_coarser(self, params: PyTree, index: int, x: jax.Array) -> jax.Array:
        """Map activations of the finer level to this one: patches of them, each to one pixel.

        An average would lose where in the patch something is, and leave the top layers little to tell.
        """
        level = self.levels[index]
        x = to_patches(x, _ratio(self.levels[index - 1], level))
        return resize(_apply(self._linear(level.width), params["from_below"], x), level.shape)

    def _to_finer(self, params: PyTree, index: int, x: jax.Array) -> jax.Array:
        """Map features of the coarser level to this one, each pixel to a patch."""
        level, ratio = self.levels[index], _ratio(self.levels[index], self.levels[index + 1])
        x = _apply(self._linear(math.prod(ratio) * level.width), params["from_above"], x)
        return resize(from_patches(x, ratio), level.shape)

    def _through_cells(
        self, cell: Cell, params: PyTree, level: Level, x: jax.Array, inputs: PyTree = None
    ) -> tuple[jax.Array, PyTree]:
        """Pass x through all cells of a level; parameters, inputs and results have a leading axis of cells."""

        def body(x: jax.Array, params_and_input: tuple[PyTree, PyTree]) -> tuple[jax.Array, PyTree]:
            return cell(params_and_input[0], x, params_and_input[1])

        most_on_cpu = 1 if self.remat else UNROLLED  # written out, XLA for CPU keeps what remat would recompute
        at_once = unroll(level.cells, most=UNROLLED, most_on_cpu=most_on_cpu) if self.scan else level.cells
        looped = at_once < level.cells
        if self.remat or (looped and traced_for() == "cpu"):
            body = jax.checkpoint(body, prevent_cse=not looped)
        return jax.lax.scan(body, x, (params, inputs), length=level.cells, unroll=at_once)


def join_layers(layers: list[LayerLatents], shape: tuple[int, ...]) -> LayerLatents:
    """Concatenate the latents of layers [..., d_l], from the top, to arrays of this shape [..., d]."""
    joined: Any = [None if parts[0] is None else jnp.concatenate(parts, -1) for parts in zip(*layers, strict=True)]
    return tuple(None if array is None else array.reshape(shape) for array in joined)  # type: ignore[return-value]


def _apply(module: Network, params: PyTree, *inputs: Any) -> Any:
    return module.apply({"params": params}, *inputs)


def _deviations(module: Network, *inputs: Any) -> PyTree:
    """Parameters of a module as standard deviations, which its initializers return; they take no randomness."""
    return module.init(jax.random.key(0), *inputs)["params"]


def _repeat(activations: jax.Array, leading: tuple[int, ...]) -> jax.Array:
    """Activations [b, ...], repeated for each entry of the leading axes [..., b], which are flattened."""
    return jnp.broadcast_to(activations, (*leading, *activations.shape[1:])).reshape(-1, *activations.shape[1:])


def _ratio(fine: Level, coarse: Level) -> tuple[int, int]:
    """Whole pixels of the finer level to one of the coarser."""
    return fine.shape[0] // coarse.shape[0], fine.shape[1] // coarse.shape[1]
