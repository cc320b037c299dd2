"""Geodesics of a learned metric of latent space, and figures of them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, Decode, DrawFigure, PyTree, Variables
from vaex.models.priors._riemannian import EncodeExamples, Metric
from vaex.plots.records import Grid, Scatter

POINTS = 13  # of a discretised geodesic
PAIRS = 5  # of examples in the figures, at most
SHARES = np.linspace(0.0, 1.0, POINTS, dtype=np.float32)[:, None]
SIDE, TURN = 7, 33  # ellipses of a metric along each axis, and the points of one
DESCENT, RATE = 500, 0.02  # steps towards it, and their size in units of the distance between its ends


def curve_energy(metric: Callable[[jax.Array], jax.Array], curve: jax.Array) -> jax.Array:
    """Return the energy of curves [..., t, d] through a metric z [..., d] -> [..., d, d], the mean squared speed, [...]."""
    change = jnp.diff(curve, axis=-2)
    between = 0.5 * (curve[..., 1:, :] + curve[..., :-1, :])
    squares = jnp.einsum("...i,...ij,...j->...", change, metric(between), change)
    return jnp.sum(squares, axis=-1) * change.shape[-2]


def straight_lines(z0: jax.Array, z1: jax.Array) -> jax.Array:
    """Return the points of straight lines from z0 to z1 [r, d], [r, t, d]."""
    shares = jnp.asarray(SHARES)
    return (1.0 - shares) * z0[:, None] + shares * z1[:, None]


def geodesics(metric: Metric, z0: jax.Array, z1: jax.Array) -> jax.Array:
    """Return curves of least energy from z0 to z1 [r, d], of ``POINTS`` points each, [r, t, d].

    From the straight line, a descent (Adam) on the logarithm of the energy: its minimum is a local one.
    """
    import optax

    line = straight_lines(z0, z1)
    unit = jnp.sqrt(jnp.sum(jnp.square(z1 - z0), axis=-1))[:, None, None]
    inside = np.sin(np.pi * SHARES)  # both ends stay

    def energy(bend: jax.Array) -> jax.Array:
        return jnp.sum(jnp.log(curve_energy(lambda z: jnp.linalg.inv(metric.inverse(z)), line + unit * inside * bend)))

    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, DESCENT))

    def step(carry: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], None]:
        bend, state = carry
        updates, state = optimizer.update(jax.grad(energy)(bend), state)
        return (bend + updates, state), None  # type: ignore[operator]

    bend = jnp.zeros_like(line)
    (bend, _), _ = jax.lax.scan(step, (bend, optimizer.init(bend)), None, length=DESCENT)
    return line + unit * inside * bend


def ellipses(metric: Metric, z: jax.Array) -> jax.Array:
    """Return ellipses of one radius in the metric, around ``SIDE`` x ``SIDE`` points over the range of z [n, 2]: [m, t, 2].

    The largest just fits between its neighbours: where the metric is large, an ellipse is small.
    """
    low, high = jnp.min(z, axis=0), jnp.max(z, axis=0)
    centres = jnp.stack(jnp.meshgrid(*jnp.linspace(low, high, SIDE).T), axis=-1).reshape(-1, 2)
    angle = jnp.linspace(0.0, 2.0 * jnp.pi, TURN)
    circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    around = jnp.einsum("mij,tj->mti", jnp.linalg.cholesky(metric.inverse(centres)), circle)
    radius = 0.45 * jnp.min((high - low) / (SIDE - 1) / jnp.max(jnp.abs(around), axis=(0, 1)))
    return centres[:, None] + radius * around


def figures(encode: EncodeExamples, decode: Decode, d: int) -> dict[str, DrawFigure]:
    """Return figures of geodesics between consecutive pairs of examples: images on them, and of two latents curves and metric."""

    @jax.jit
    def ways(variables: Variables, hparams: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array, Metric]:
        """Geodesics and lines [r, t, d], and the metric."""
        q = encode(variables, hparams, batch["x"][: min(2 * PAIRS, len(batch["x"]) // 2 * 2)])
        ends = q.mean
        return geodesics(q.metric, ends[::2], ends[1::2]), straight_lines(ends[::2], ends[1::2]), q.metric

    def draw_images(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
        curves, lines, _ = ways(variables, hparams, batch)
        z = jnp.stack([curves, lines], axis=1).reshape(-1, POINTS, d)
        images = jnp.clip(decode(variables, hparams, z, {}).mean, 0.0, 1.0)
        return Grid(images, ("geodesic", "line") * len(curves), title="On geodesics, and on straight lines")

    def draw_curves(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Scatter:
        curves, lines, metric = ways(variables, hparams, batch)
        title = "The metric, its centroids, and ways between codes"
        paths = {"one radius": ellipses(metric, metric.centroids), "geodesic": curves, "line": lines}
        return Scatter(metric.centroids, None, "z0", "z1", title, paths)

    return {"geodesic_images": draw_images} | ({"geodesics": draw_curves} if d == 2 else {})
