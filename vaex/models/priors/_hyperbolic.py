"""Hyperbolic latents as parts of a model: a posterior on the Poincaré ball, and decoders that read distances to its hyperplanes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex import nets
from vaex.core import Batch, InitKey, PyTree
from vaex.distributions import Distribution, PoincareNormal
from vaex.distributions.family import family
from vaex.distributions.poincare import to_poincare_ball
from vaex.models.latent import Components

MARGIN = 1e-5  # of the ball's radius
FREE, BEYOND = 2.0, 2.0  # norms of tangent vectors at the origin: unchanged up to the first, below the sum of both
DRAWS = 64  # of which the variance of a posterior is taken


@family
class BallPosterior(PoincareNormal):
    """Wrapped normal that is decoded at its Fréchet mean."""

    @property
    def mean(self) -> jax.Array:  # type: ignore[override]
        """The Fréchet mean [b, d]; the average of the coordinates is none."""
        return self.loc

    @property
    def variance(self) -> jax.Array:
        """[b, d], of the coordinates; within about a fifth; all examples share the noise, so that batches do not matter."""
        draws = jax.vmap(lambda row: row.sample(jax.random.key(0), (DRAWS,)))(self)
        return jnp.var(draws, axis=1)


def reachable(x: jax.Array, curvature: ArrayLike) -> jax.Array:
    """Return tangent vectors at the origin x [..., d], long ones shortened: their exponential maps lie within 8 / sqrt(c).

    Farther out, float32 does not hold points well enough for densities: a posterior there would have any KL divergence.
    """
    square = curvature * jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    norm = jnp.sqrt(jnp.where(square > FREE**2, square, FREE**2))
    return x * (FREE + BEYOND * jnp.tanh((norm - FREE) / BEYOND)) / norm


def at_most_wide(log_scale: jax.Array, widest: ArrayLike) -> jax.Array:
    """Return log scales, unchanged up to that of ``widest``, and smoothly below one and a half times that."""
    excess = jnp.maximum(log_scale - jnp.log(widest), 0.0)
    return log_scale - excess + jnp.log(1.5) * jnp.tanh(excess / jnp.log(1.5))


def gyroplane_distances(points: jax.Array, normals: jax.Array, z: jax.Array, curvature: ArrayLike) -> jax.Array:
    r"""Return :math:`\mathrm{sign}\,\|a\|_p\,d(z, H_{a,p})` of each hyperplane through p orthogonal to a, [..., n].

    :math:`\frac{2\|a\|}{\sqrt c}\,\mathrm{asinh}\frac{2\sqrt c\,\langle -p \oplus z, a\rangle}{(1 - c\|-p \oplus z\|^2)\|a\|}`,
    with a tangent vector at the origin that is carried along the geodesic to p; 4 <z - p, a> in the limit of c to 0.

    Args:
      points: [n, d], tangent vectors at the origin, whose exponential map is p.
      normals: [n, d], not zero.
      z: [..., d], in the ball of radius 1 / sqrt(c).
      curvature: c > 0.

    References: Ganea, Bécigneul & Hofmann 2018, theorem 5; Mathieu et al. 2019, eq. 9.
    """
    c = jnp.asarray(curvature)
    p = to_poincare_ball(points, c)
    pp, zz, pz = jnp.sum(jnp.square(p), axis=-1), jnp.sum(jnp.square(z), axis=-1, keepdims=True), z @ p.T
    # the denominator of the Möbius sum cancels
    inner = (1.0 - c * pp) * (z @ normals.T) - (1.0 - 2.0 * c * pz + c * zz) * jnp.sum(p * normals, axis=-1)
    norm = jnp.sqrt(jnp.sum(jnp.square(normals), axis=-1))
    sinh = 2.0 * jnp.sqrt(c) * inner / ((1.0 - c * pp) * (1.0 - c * zz) * norm)
    return 2.0 * norm / jnp.sqrt(c) * jnp.arcsinh(sinh)


def within_ball(z: jax.Array, curvature: ArrayLike) -> jax.Array:
    """Return z [..., d], and in place of points on or beyond the ball's boundary those just within it on the same ray."""
    square, limit = curvature * jnp.sum(jnp.square(z), axis=-1, keepdims=True), (1.0 - MARGIN) ** 2
    return jnp.where(square > limit, z * jnp.sqrt(limit / jnp.where(square > limit, square, limit)), z)


def behind_gyroplanes(components: Components, count: int, latent_dim: int, activation: str) -> Components:
    """Return components whose decoder, which takes ``count`` numbers, reads activations of distances of z to as many gyroplanes.

    ``hparams.curvature`` is that of the ball; the parameters are "gyroplanes".
    """
    function, shape = nets.activation_function(activation), (count, latent_dim)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        normals = jax.random.normal(jax.random.fold_in(key, InitKey.AUXILIARY), shape) / (4.0 * np.sqrt(latent_dim))
        return components.init(key, batch) | {"gyroplanes": {"points": jnp.zeros(shape), "normals": normals}}

    def decode(params: PyTree, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        c = hparams.curvature
        distances = gyroplane_distances(**params["gyroplanes"], z=within_ball(z, c), curvature=c)
        return components.decode(params, hparams, function(distances), batch)

    return components._replace(init=init, decode=decode)
