"""Wrapped normal on the Poincaré ball."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions._base import Elementwise, check_leading, family, inner, lift, match, match_leading
from vaex.distributions._numeric import asinh_ratio, log_sinhc, tanh_ratio
from vaex.distributions.gaussian import Normal


def to_poincare_ball(x: jax.Array, curvature: jax.Array | float = 1.0) -> jax.Array:
    r"""Exponential map at the origin, from R^d into the ball of radius :math:`1/\sqrt c`.

    :math:`\tanh(\sqrt c\,|x|)\,x/(\sqrt c\,|x|)`, kept inside the ball by a few roundings of the dtype.

    Args:
      x: [..., d], for instance an encoder's output.
      curvature: c > 0 (the space has curvature -c), a scalar or [...].
    Returns: [..., d], float32 or wider: bfloat16 would round points onto the boundary.
    Raises: ValueError if ``x`` has no axis.
    Example:
      >>> print(*(f"{x:.4f}" for x in to_poincare_ball(jnp.array([0.0, 100.0]))))
      0.0000 1.0000

    References: Ganea, Bécigneul & Hofmann 2018, lemma 2.
    """
    if np.ndim(x) < 1:
        raise ValueError("to_poincare_ball: x has shape (), expected [..., d]; give vectors")
    x, c = lift(x, curvature)
    c = c[..., None]
    return _inside(x * tanh_ratio(c * _square(x)), c)


@family
class PoincareNormal(Elementwise):
    r"""Wrapped normal on the Poincaré ball: a tangent Gaussian at the mean, carried along geodesics.

    :math:`z = \exp_\mu(v/\lambda_\mu)` with :math:`v \sim N(0, \mathrm{diag}(\sigma^2))`, so sigma is in units of
    hyperbolic distance. ``log_prob`` is the density against the Riemannian volume; it differs from that against Lebesgue
    measure by a function of z that cancels in any KL. The dtype bounds the distance from the origin (about 14 at c = 1 in
    float32): points beyond stick to that shell. Samples are float32 or wider.

    Args:
      mean: [*batch, d], the centre (not the average of coordinates), in the ball of radius 1/sqrt(c);
        ``to_poincare_ball`` takes any vector there.
      log_scale: [*batch, d], log sigma; broadcast to the mean's shape.
      curvature: c > 0, a scalar or [*batch].
    Raises: ValueError if the shapes disagree.
    Example:
      >>> d = PoincareNormal(jnp.zeros((4, 2)), 0.0, 1.0)
      >>> z = d.sample(jax.random.key(0))
      >>> bool((jnp.linalg.norm(z, axis=-1) < 1).all()), d.log_prob(z).shape
      (True, (4,))

    References: Mathieu et al. 2019, eqs. 4-5 and appendix B.4; Nagano et al. 2019.
    """

    mean: jax.Array
    log_scale: jax.Array
    curvature: jax.Array | float = 1.0

    @property
    def event_ndims(self) -> int:  # type: ignore[override]
        """One: the last axis."""
        return 1

    def __post_init__(self) -> None:
        match(self, "mean", "log_scale")
        match_leading(self, "mean", "curvature")

    @property
    def mode(self) -> jax.Array:
        """The mean."""
        return self.mean

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        mean, log_scale, c = self._lifted()
        v = jnp.exp(log_scale) * jax.random.normal(key, shape, mean.dtype)
        step = 0.5 * v * tanh_ratio(0.25 * c * _square(v))
        return _inside(_mobius_add(mean, _inside(step, c), c), c)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        mean, log_scale, c = self._lifted()
        value, _ = lift(value, mean)
        v = _tangent(mean, _inside(value, c), c)
        normal = Normal(jnp.zeros_like(mean), log_scale).log_prob(v)
        return normal - (mean.shape[-1] - 1) * log_sinhc((c * _square(v))[..., 0])

    def _lifted(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        check_leading(self, "mean", "curvature")
        mean, log_scale, c = lift(self.mean, self.log_scale, self.curvature)
        return _inside(mean, c[..., None]), log_scale, c[..., None]


def _square(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(x), axis=-1, keepdims=True)


def _inside(x: jax.Array, c: jax.Array) -> jax.Array:
    """``x`` moved radially to at most (1 - 16 eps) / sqrt(c)."""
    limit = 1.0 - 16.0 * float(jnp.finfo(x.dtype).eps)
    square = c * _square(x)
    outside = square > limit * limit
    return jnp.where(outside, x * (limit / jnp.sqrt(jnp.where(outside, square, 1.0))), x)


def _mobius_add(x: jax.Array, y: jax.Array, c: jax.Array) -> jax.Array:
    xy, xx, yy = inner(x, y)[..., None], _square(x), _square(y)
    gap = (1.0 - c * xx) * (1.0 - c * yy)
    return ((1.0 + 2.0 * c * xy + c * yy) * x + (1.0 - c * xx) * y) / (gap + c * _square(x + y))


def _tangent(mean: jax.Array, z: jax.Array, c: jax.Array) -> jax.Array:
    """lambda_mean log_mean(z), smooth at z = mean, with s = sinh^2(sqrt(c) distance / 2).

    It is (-mean (+) z) 2 sqrt(1 + s) asinh(sqrt s) / sqrt s; the Möbius sum's denominator is gap (1 + s).
    """
    gap = (1.0 - c * _square(mean)) * (1.0 - c * _square(z))
    s = c * _square(mean - z) / gap
    mz = inner(mean, z)[..., None]
    numerator = (1.0 - c * _square(mean)) * z - (1.0 - 2.0 * c * mz + c * _square(z)) * mean
    return 2.0 * asinh_ratio(s) * numerator / (gap * jnp.sqrt(1.0 + s))
