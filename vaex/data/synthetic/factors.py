"""Images with known factors: each combination of a few discrete factors determines one image, rendered on demand.

Axes: n or b images, f factors, h w c image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.core import Batch, Feed, PyTree
from vaex.data.order import batch_indices
from vaex.data.spec import Spec
from vaex.errors import UserError


class Render(Protocol):
    """Pure function that renders images of factors."""

    def __call__(self, resident: PyTree, factors: jax.Array, /) -> jax.Array:
        """Return stored images [..., h, w, c] of factors [..., f]."""
        ...


class FactorSource(NamedTuple):
    """Full grid of factors with the image of each combination, from which disentanglement metrics sample.

    ``spec``: of the images, with ``factor_names``. ``sizes``: number of values of each factor, [f]; factor i is an index
    0..sizes[i]-1. ``resident``: arrays that ``render`` needs, kept on the device. ``render``: pure; the image of factors out
    of range is undefined. Observations are numbered in mixed radix, the last factor fastest.

    Example:
      >>> source = FactorSource(Spec("dots", (1, 1, 1), "grey", 256), (2, 3), (), lambda _, f: f.sum(-1)[..., None, None, None])
      >>> source.num_observations, source.index_to_factors(5).tolist(), source.observe(jnp.array([[1, 2]])).ravel().tolist()
      (6, [1, 2], [3])
    """

    spec: Spec
    sizes: tuple[int, ...]
    resident: PyTree
    render: Render

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the factors, [f]."""
        return self.spec.factor_names

    @property
    def batch_size(self) -> None:
        """Batches may have any size, so there is none of its own."""

    @property
    def num_observations(self) -> int:
        """Number of combinations of factors: the product of the sizes."""
        return math.prod(self.sizes)

    def observe(self, factors: ArrayLike) -> jax.Array:
        """Render stored images [n, h, w, c] of factors [n, f].

        Under jit, ``resident`` becomes a constant of the program. Where it is large, pass it as an argument to ``render``,
        as ``factor_feed`` does.

        Raises: ValueError unless factors are integers with the last axis f.
        """
        return self.render(self.resident, check_factors("observe", factors, self.sizes))

    def sample_factors(self, key: jax.Array, n: int) -> jax.Array:
        """Draw factors uniformly and independently: int32 [n, f]."""
        return jax.random.randint(key, (n, len(self.sizes)), 0, jnp.array(self.sizes, jnp.int32), jnp.int32)

    def index_to_factors(self, index: ArrayLike) -> jax.Array:
        """Return factors int32 [..., f] of observations numbered 0..num_observations-1 [...]."""
        rest = jnp.asarray(index, jnp.int32)
        digits = []
        for size in reversed(self.sizes):
            digits.append(rest % size)
            rest = rest // size
        return jnp.stack(digits[::-1], axis=-1)

    def factors_to_index(self, factors: ArrayLike) -> jax.Array:
        """Return the numbers int32 [...] of the observations with these factors [..., f]; the inverse of ``index_to_factors``.

        Raises: ValueError unless factors are integers with the last axis f.
        """
        checked = check_factors("factors_to_index", factors, self.sizes)
        index = jnp.zeros(checked.shape[:-1], jnp.int32)
        for position, size in enumerate(self.sizes):
            index = index * size + checked[..., position]
        return index

    def feed(self, batch_size: int, data_seed: int = 0) -> Feed:
        """Return the ``factor_feed`` of this source."""
        return factor_feed(self, batch_size, data_seed)

    def grid(self) -> np.ndarray:
        """Return all factors in order, int32 [num_observations, f], on the host."""
        return np.stack(np.unravel_index(np.arange(self.num_observations), self.sizes), axis=-1).astype(np.int32)


def check_factors(caller: str, factors: ArrayLike, sizes: tuple[int, ...]) -> jax.Array:
    """Check factors and return them as int32 [..., f].

    Raises: ValueError unless they are integers with the last axis f.
    Example:
      >>> check_factors("observe", jnp.zeros([4, 2], jnp.uint8), (3, 5)).shape
      (4, 2)
    """
    given = jnp.asarray(factors)
    if given.ndim < 1 or given.shape[-1] != len(sizes):
        raise ValueError(
            f"{caller}: factors has shape {given.shape}, expected [..., {len(sizes)}]; give one index per factor on the last axis"
        )
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise ValueError(f"{caller}: factors has dtype {given.dtype}, expected integers; give indices, not values")
    return given.astype(jnp.int32)


def factor_feed(source: FactorSource, batch_size: int, data_seed: int = 0) -> Feed:
    """Return a feed that renders batches inside the compiled step: only the numbers of observations are transferred.

    Args:
      source: any source of fewer than 2**31 observations.
      batch_size: images per batch, at most the number of observations.
      data_seed: of the order; see ``vaex.data.order``.
    Returns: a Feed whose ``resident`` is the source's, whose plan rows are int32 [b] observations (each once an epoch), and
      whose batches are "x", stored images [b, h, w, c], and "factors", int32 [b, f].
    Raises: UserError for a batch size below 1 or above the number of observations, or a bad seed.
    Example:
      >>> from vaex.data.synthetic.sprites import sprites
      >>> feed = factor_feed(sprites(), batch_size=2)
      >>> batch = feed.batch(feed.resident, feed.plan(0, 1)[0])
      >>> batch["x"].shape, batch["x"].dtype, batch["factors"].shape
      ((2, 64, 64, 1), dtype('uint8'), (2, 5))
    """
    n = source.num_observations
    if batch_size < 1:
        raise UserError(f"--batch_size={batch_size}: give a positive number")
    if batch_size > n:
        raise UserError(
            f"--batch_size={batch_size} is larger than the {n} images of {source.spec.name}; give at most {n}"
        )
    if not 0 <= data_seed < 2**64:
        raise UserError(f"--data_seed={data_seed}: give a number from 0 to 2**64 - 1")

    def plan(first_step: int, count: int) -> np.ndarray:
        return batch_indices(data_seed, n, batch_size, first_step, count)

    def batch(resident: PyTree, row: jax.Array) -> Batch:
        factors = source.index_to_factors(row)
        images = rendered_once(lambda: source.render(resident, factors), factors.ravel()[0])
        return {"x": images, "factors": factors}

    return Feed(source.resident, plan, batch)


def rendered_once(draw: Callable[[], jax.Array], number: jax.Array) -> jax.Array:
    """Return ``draw()``, computed apart from its uses.

    XLA's CPU compiler fuses rendering into the first use of the pixels, whose order of access prevents vectorisation (a
    convolutional step takes 10% longer). It does not fuse across a branch.

    Args:
      draw: returns images.
      number: a signed integer of at least 0 whose value is unknown at compile time.
    """

    def branch() -> jax.Array:
        shape = jax.eval_shape(draw)
        return jax.lax.cond(number >= 0, draw, lambda: jnp.zeros(shape.shape, shape.dtype))

    return jax.lax.platform_dependent(cpu=branch, default=draw)
