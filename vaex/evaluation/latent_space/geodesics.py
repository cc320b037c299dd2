"""Shortest paths in the metric that a decoder pulls back to its codes: lengths are those of the decoded curve."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

RATE = 0.05  # of Adam, relative to the distance of the ends


def geodesic(
    decode: Callable[[jax.Array], jax.Array], z0: ArrayLike, z1: ArrayLike, num: int = 10, *, steps: int = 300
) -> np.ndarray:
    r"""Points of a shortest path between codes, in the pullback metric :math:`J^\top J` of a decoder.

    The inner points minimise the energy :math:`\sum_i|x(z_{i+1}) - x(z_i)|^2` of the discrete curve, by Adam from the straight
    line; they then lie at equal distances in x. A local minimum: the straight line itself where the decoder is linear.

    Args:
      decode: codes [n, d] -> examples [n, ...], by jax, such as the mean of p(x|z).
      z0, z1: the ends, [b, d].
      num: points, the ends included, >= 3.
      steps: of the minimisation.
    Returns: codes float32 [b, num, d].
    Raises: ValueError for shapes that disagree.
    Example:
      >>> polar = lambda z: jnp.stack([z[:, 0] * jnp.cos(z[:, 1]), z[:, 0] * jnp.sin(z[:, 1])], axis=-1)
      >>> middle = geodesic(polar, [[1.0, 0.0]], [[1.0, 2.0]], num=5)[0, 2]  # a chord passes nearer to the centre than the arc
      >>> print(*middle.round(2), round(float(np.cos(1.0)), 2))
      0.54 1.0 0.54

    References: Chen et al. 2018, Metrics for deep generative models, section 3; Shao et al. 2018.
    """
    import optax

    start, end = np.asarray(z0, np.float32), np.asarray(z1, np.float32)
    if start.ndim != 2 or start.shape != end.shape or num < 3:
        raise ValueError(
            f"geodesic: z0, z1 have shapes {start.shape}, {end.shape}, num is {num}; expected [b, d] twice, num >= 3"
        )
    t = np.linspace(0.0, 1.0, num, dtype=np.float32)[None, :, None]
    line = (1.0 - t) * start[:, None] + t * end[:, None]
    scale = float(np.sqrt(np.mean(np.square(end - start)))) or 1.0

    def energy(inner: jax.Array) -> jax.Array:
        path = jnp.concatenate([line[:, :1], inner, line[:, -1:]], axis=1)
        x = decode(path.reshape(-1, path.shape[-1])).reshape(*path.shape[:2], -1)
        return jnp.sum(jnp.square(jnp.diff(x, axis=1)))

    # gradients that are rounding alone, beside the energy of the line, move nothing
    least = 1e-4 * float(energy(jnp.asarray(line[:, 1:-1]))) / scale or 1e-8
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE * scale, steps), eps=least)

    @jax.jit
    def minimised(inner: jax.Array) -> jax.Array:
        def step(carry: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], None]:
            inner, state = carry
            updates, state = optimizer.update(jax.grad(energy)(inner), state)
            return (inner + jnp.asarray(updates), state), None

        return jax.lax.scan(step, (inner, optimizer.init(inner)), None, length=steps)[0][0]

    return np.concatenate([line[:, :1], np.asarray(minimised(jnp.asarray(line[:, 1:-1]))), line[:, -1:]], axis=1)


def path_length(decode: Callable[[jax.Array], jax.Array], path: ArrayLike) -> np.ndarray:
    """Length of decoded paths: codes [b, t, d] -> [b], in units of x.

    Example:
      >>> path_length(lambda z: 2.0 * z, [[[0.0], [1.0], [0.5]]])
      array([3.], dtype=float32)
    """
    points = jnp.asarray(path, jnp.float32)
    x = decode(points.reshape(-1, points.shape[-1])).reshape(*points.shape[:2], -1)
    return np.asarray(jnp.sum(jnp.linalg.norm(jnp.diff(x, axis=1), axis=-1), axis=1))
