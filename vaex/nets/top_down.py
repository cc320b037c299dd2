"""The networks of a deep hierarchy of latents over images: activations of x upwards, residual cells downwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex.nets.conv import Conv, ConvTranspose
from vaex.nets.residual_cells import ResidualCell, TopDownCell, deviation, drawn, layer
from vaex.nets.resize import from_patches, resize, to_patches


class Level(NamedTuple):
    """Cells at one resolution: the images' ``shape`` (h, w), how many ``cells``, and their channels."""

    shape: tuple[int, int]
    cells: int
    width: int


class TopDownPass(NamedTuple):
    """What a way down gives.

    ``features``: what the output is made of. Of all latents, those of the top layer first, [..., d] each: ``z``, mean and log
    scale of the prior given the layers above, and of the posterior given these and x, None where x was not there.
    """

    features: jax.Array
    z: jax.Array
    prior_mean: jax.Array
    prior_log_scale: jax.Array
    posterior_mean: jax.Array | None
    posterior_log_scale: jax.Array | None


@dataclass(frozen=True)
class TopDownNetwork:
    """Pure functions of a tree of parameters, in which cells of equal shape are stacked.

    Attributes:
      image: (h, w, c).
      levels: from the finest to the coarsest; no side exceeds that of the level before, or the image's.
      latents: channels of z in each cell.
      outputs: numbers per pixel of the output.
      activation: name, see ``activation_function``.
      dtype: of the cells' computation, "float32" or "bfloat16"; parameters, latents and outputs are float32.
      remat: whether the gradient computes what is inside a cell anew instead of keeping it.
      scan: whether cells of equal shape are one loop, which compiles once, or are written out one after the other.
    Example:
      >>> network = TopDownNetwork((8, 8, 1), (Level((4, 4), 2, 8), Level((1, 1), 1, 8)), latents=2, outputs=1)
      >>> network.sizes
      (2, 32, 32)
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
        """Entries of each layer's z, from the top."""
        return tuple(
            math.prod(level.shape) * self.latents for level in reversed(self.levels) for _ in range(level.cells)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the layers, by the size of their images."""
        return tuple("x".join(map(str, level.shape)) for level in reversed(self.levels) for _ in range(level.cells))

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Parameters, and the statistics of batches, of which there are none."""
        finest, above = self.levels[0], None
        params: dict[str, Any] = {
            "stem": _deviations(self._stem(), jnp.zeros((1, *self.image))),
            "output": _deviations(self._output(), jnp.zeros((1, *finest.shape, finest.width))),
        }
        for index in reversed(range(len(self.levels))):
            params[f"level_{index}"] = self._of_level(index, above)
            above = self.levels[index]
        return drawn(key, params), ()

    def _of_level(self, index: int, above: Level | None) -> Any:
        """Parameters of a level as standard deviations; those of its cells are stacked."""
        level = self.levels[index]
        x, code = jnp.zeros((1, *level.shape, level.width)), jnp.zeros((1, *level.shape, self.latents))
        up, down = self._cells(level)
        cells = {"up": _deviations(up, x), "down": _deviations(down, x, code, x, "posterior")}
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
            self.levels[0].width, (s + 2, s + 2), strides=s, dtype=jnp.dtype(self.dtype), kernel_init=deviation()
        )

    def _output(self) -> ConvTranspose:
        s = self._stride
        return ConvTranspose(self.outputs, (s + 2, s + 2), strides=(s, s), kernel_init=deviation(float(s * s)))

    def _linear(self, features: int) -> Any:
        return layer(features, 1, jnp.dtype(self.dtype))

    def _cells(self, level: Level) -> tuple[ResidualCell, TopDownCell]:
        """The cell on the way up, and that on the way down."""
        kernel = 3 if min(level.shape) > 2 else 1
        rest = (max(1, level.width // 2), kernel, self.activation, jnp.dtype(self.dtype), 1.0 / len(self.sizes))
        return ResidualCell(*rest), TopDownCell(self.latents, *rest)

    def _raised(self, params: Any, index: int, x: jax.Array) -> jax.Array:
        """Activations of the finer level as this one's begin: patches of them, each mapped to one pixel.

        An average would say nothing of where in the patch something is, and leave the top layers without much to tell.
        """
        level = self.levels[index]
        x = to_patches(x, _ratio(self.levels[index - 1], level))
        return resize(self._linear(level.width).apply({"params": params["from_below"]}, x), level.shape)

    def _lowered(self, params: Any, index: int, x: jax.Array) -> jax.Array:
        """What comes from the coarser level, each pixel mapped to a patch of this one."""
        level, ratio = self.levels[index], _ratio(self.levels[index], self.levels[index + 1])
        x = self._linear(math.prod(ratio) * level.width).apply({"params": params["from_above"]}, x)
        return resize(from_patches(x, ratio), level.shape)

    def _through(self, cell: Any, params: Any, level: Level, x: jax.Array, inputs: Any = None) -> tuple[jax.Array, Any]:
        """x through all cells of a level; ``cell(params, x, inputs) -> (x, results)``, of inputs and results [cells, ...]."""

        def body(x: jax.Array, one: Any) -> tuple[jax.Array, Any]:
            return cell(one[0], x, one[1])

        scan = self.scan and level.cells > 1
        body = jax.checkpoint(body, prevent_cse=not scan) if self.remat else body
        return jax.lax.scan(body, x, (params, inputs), length=level.cells, unroll=1 if scan else level.cells)

    def bottom_up(
        self, params: Any, statistics: Any, x: jax.Array, *, train: bool = False
    ) -> tuple[tuple[jax.Array, ...], Any]:
        """Activations of images x [b, h, w, c] at each level, from the finest; and the statistics as they were."""
        finest = self.levels[0].shape
        y: Any = resize(self._stem().apply({"params": params["stem"]}, x), finest)  # type: ignore[arg-type]
        found = []
        for index, level in enumerate(self.levels):
            own, up = params[f"level_{index}"], self._cells(level)[0]
            y = self._raised(own, index, y) if index else y
            y, _ = self._through(lambda p, y, _, up=up: (up.apply({"params": p}, y), None), own["up"], level, y)
            found.append(y)
        return tuple(found), statistics

    def top_down(
        self, params: Any, code: jax.Array, activations: tuple[jax.Array, ...] | None, source: str
    ) -> TopDownPass:
        """The way down.

        Args:
          params: of the whole network.
          code: [..., d], what makes z in each layer, from the top; of several axes the last before d is b.
          activations: from ``bottom_up``, of b examples; or None.
          source: what the code is: noise of the "posterior" or of the "prior", or "given", z itself.
        """
        lead, flat = code.shape[:-1], code.reshape(-1, code.shape[-1])
        finest, top = self.levels[0], self.levels[-1]
        x, start, found = jnp.zeros((len(flat), *top.shape, top.width), jnp.dtype(self.dtype)), 0, []
        for index in reversed(range(len(self.levels))):
            own, level = params[f"level_{index}"], self.levels[index]
            x = (x if level is top else self._lowered(own, index, x)) + own["bias"].astype(x.dtype)
            stop = start + level.cells * math.prod(level.shape) * self.latents
            codes = flat[:, start:stop].reshape(len(flat), level.cells, *level.shape, self.latents)
            seen = None
            if activations is not None:
                seen = activations[index]
                seen = jnp.broadcast_to(seen, (*lead, *seen.shape[1:])).reshape(-1, *seen.shape[1:])
            down = self._cells(level)[1]

            def cell(p: Any, x: jax.Array, code: jax.Array, down: Any = down, seen: Any = seen) -> Any:
                return down.apply({"params": p}, x, code, seen, source)

            x, results = self._through(cell, own["down"], level, x, jnp.moveaxis(codes, 1, 0))
            found.append(jax.tree.map(lambda one: jnp.moveaxis(one, 0, 1).reshape(len(flat), -1), results))
            start = stop
        z = [None if parts[0] is None else jnp.concatenate(parts, -1) for parts in zip(*found, strict=True)]
        joined: Any = [one if one is None else one.reshape(code.shape) for one in z]
        return TopDownPass(x.reshape(*lead, *finest.shape, finest.width), *joined)

    def output(self, params: Any, features: jax.Array) -> jax.Array:
        """Features [..., h', w', c'] as images [..., h, w, outputs]."""
        flat = features.reshape(-1, *features.shape[-3:]).astype(jnp.float32)
        coarse = (-(-self.image[0] // self._stride), -(-self.image[1] // self._stride))
        raw: Any = self._output().apply({"params": params["output"]}, resize(flat, coarse))
        raw = raw[:, : self.image[0], : self.image[1]]
        return raw.reshape(*features.shape[:-3], *raw.shape[1:])


def _deviations(module: Any, *inputs: Any) -> Any:
    """A module's parameters as it initialises them, which takes no randomness."""
    return module.init(jax.random.key(0), *inputs)["params"]


def _ratio(fine: Level, coarse: Level) -> tuple[int, int]:
    """Whole pixels of the finer level to one of the coarser."""
    return fine.shape[0] // coarse.shape[0], fine.shape[1] // coarse.shape[1]
