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


def figures(encode: EncodeExamples, decode: Decode, d: int) -> dict[str, DrawFigure]:
    """Return figures of geodesics between consecutive pairs of examples: images on them, and of two latents their curves."""

    @jax.jit
    def ways(variables: Variables, hparams: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Geodesics and lines [r, t, d], and centroids."""
        q = encode(variables, hparams, batch["x"][: min(2 * PAIRS, len(batch["x"]) // 2 * 2)])
        ends = q.mean
        return geodesics(q.metric, ends[::2], ends[1::2]), straight_lines(ends[::2], ends[1::2]), q.metric.centroids

    def draw_images(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
        curves, lines, _ = ways(variables, hparams, batch)
        z = jnp.stack([curves, lines], axis=1).reshape(-1, POINTS, d)
        images = jnp.clip(decode(variables, hparams, z, {}).mean, 0.0, 1.0)
        return Grid(images, ("geodesic", "line") * len(curves), title="On geodesics, and on straight lines")

    def draw_curves(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Scatter:
        curves, lines, centroids = ways(variables, hparams, batch)
        title = "Centroids of the metric, and ways between codes"
        return Scatter(centroids, None, "z0", "z1", title, {"geodesic": curves, "line": lines})

    return {"geodesic_images": draw_images} | ({"geodesics": draw_curves} if d == 2 else {})
