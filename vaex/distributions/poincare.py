"""Wrapped normal on the Poincaré ball."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.distributions._location_scale import UNSET, LocationScale, Unset, set_location_scale
from vaex.distributions._shapes import check_leading, match_leading
from vaex.distributions.family import family
from vaex.distributions.gaussian import Normal
from vaex.ops.arrays import inner, lift
from vaex.ops.scalars import asinh_ratio, log_sinhc, tanh_ratio


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
class PoincareNormal(LocationScale):
    r"""Wrapped normal on the Poincaré ball: a tangent Gaussian at the location, carried along geodesics.

    :math:`z = \exp_\mu(v/\lambda_\mu)` with :math:`v \sim N(0, \mathrm{diag}(\sigma^2))`, so sigma is in units of
    hyperbolic distance. ``log_prob`` is the density against the Riemannian volume; it differs from that against Lebesgue
    measure by a function of z that cancels in any KL. The dtype bounds the distance from the origin (about 14 at c = 1 in
    float32): points beyond stick to that shell. Samples are float32 or wider.

    Args:
      loc: [*batch, d], :math:`\mu`, in the ball of radius 1/sqrt(c); ``to_poincare_ball`` takes any vector there. It is
        the Fréchet mean, not the average of the coordinates.
      scale: [*batch, d], sigma; broadcast to the shape of ``loc``.
      log_scale: log sigma, instead of ``scale``; the field that is stored.
      curvature: c > 0, a scalar or [*batch].
    Raises: ValueError if the shapes disagree, or unless exactly one of ``scale`` and ``log_scale`` is given.
    Example:
      >>> d = PoincareNormal(jnp.zeros((4, 2)), 1.0, curvature=1.0)
      >>> z = d.sample(jax.random.key(0))
      >>> bool((jnp.linalg.norm(z, axis=-1) < 1).all()), d.log_prob(z).shape
      (True, (4,))

    References: Mathieu et al. 2019, eqs. 4-5 and appendix B.4; Nagano et al. 2019.
    """

    loc: jax.Array
    log_scale: jax.Array
    curvature: jax.Array | float = 1.0

    def __init__(
        self,
        loc: ArrayLike,
        scale: ArrayLike | Unset = UNSET,
        *,
        log_scale: ArrayLike | Unset = UNSET,
        curvature: ArrayLike = 1.0,
    ) -> None:
        set_location_scale(self, loc, scale, log_scale, curvature=curvature)
        match_leading(self, "loc", "curvature")

    @property
    def mean(self) -> None:  # type: ignore[override]
        """Not defined: the expected value of the coordinates has no closed form. The Fréchet mean is ``loc``."""
        return None

    @property
    def event_ndims(self) -> int:  # type: ignore[override]
        """One: the last axis."""
        return 1

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        loc, log_scale, c = self._lifted()
        v = jnp.exp(log_scale) * jax.random.normal(key, shape, loc.dtype)
        step = 0.5 * v * tanh_ratio(0.25 * c * _square(v))
        return _inside(_mobius_add(loc, _inside(step, c), c), c)

    def _log_prob(self, value: jax.Array) -> jax.Array:
        loc, log_scale, c = self._lifted()
        value, _ = lift(value, loc)
        v = _tangent(loc, _inside(value, c), c)
        normal = Normal(jnp.zeros_like(loc), log_scale=log_scale).log_prob(v)
        return normal - (loc.shape[-1] - 1) * log_sinhc((c * _square(v))[..., 0])

    def _lifted(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        check_leading(self, "loc", "curvature")
        loc, log_scale, c = lift(self.loc, self.log_scale, self.curvature)
        return _inside(loc, c[..., None]), log_scale, c[..., None]


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


def _tangent(loc: jax.Array, z: jax.Array, c: jax.Array) -> jax.Array:
    """lambda_loc log_loc(z), smooth at z = loc, with s = sinh^2(sqrt(c) distance / 2).

    It is (-loc (+) z) 2 sqrt(1 + s) asinh(sqrt s) / sqrt s; the Möbius sum's denominator is gap (1 + s).
    """
    gap = (1.0 - c * _square(loc)) * (1.0 - c * _square(z))
    s = c * _square(loc - z) / gap
    mz = inner(loc, z)[..., None]
    numerator = (1.0 - c * _square(loc)) * z - (1.0 - 2.0 * c * mz + c * _square(z)) * loc
    return 2.0 * asinh_ratio(s) * numerator / (gap * jnp.sqrt(1.0 + s))
