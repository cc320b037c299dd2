"""Gradient estimators of the choice of a code, and the losses that pull vectors and codes together."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vaex.ops.arrays import lift, narrow
from vaex.quantizers._common import check_same_shape, unit


def straight_through(z: jax.Array, codes: jax.Array) -> jax.Array:
    r"""Return the codes, with the gradient of the identity in z: :math:`z + \mathrm{sg}(c - z)`, without its rounding.

    Args:
      z: [..., d].
      codes: [..., d], constants here.
    Returns: [..., d], exactly the codes in z's dtype.
    Raises: ValueError if the shapes differ.
    Example:
      >>> jax.jvp(lambda z: straight_through(z, jnp.ones(2)), (jnp.zeros(2),), (jnp.array([3.0, 4.0]),))
      (Array([1., 1.], dtype=float32), Array([3., 4.], dtype=float32))

    References: Bengio, Leonard & Courville 2013; van den Oord, Vinyals & Kavukcuoglu 2017, section 3.2.
    """
    z, codes = jnp.asarray(z), jnp.asarray(codes)
    check_same_shape("straight_through", z, codes)
    z = narrow(z, z)
    return jax.lax.stop_gradient(narrow(codes, z)) + _zero(z)


def rotation_trick(z: jax.Array, codes: jax.Array) -> jax.Array:
    r"""Return the codes, with the gradient of the rotation and rescaling that take each vector to its code.

    :math:`\frac{|c|}{|z|} R z` with :math:`R = I - 2 r r^T + 2 \hat c \hat z^T` and
    :math:`r = (\hat c + \hat z)/|\hat c + \hat z|`, both R and the scale constants. A gradient reaches z at the angle to z that
    it had to the code.

    Where there is no such rotation: a vector shorter than 1e-6 of its code (zero, say) has the straight-through gradient; one
    opposite to its code has :math:`R = I - 2\hat z\hat z^T`, the reflection that takes it there; a code at zero passes none.

    Args:
      z: [..., d].
      codes: [..., d], constants here.
    Returns: [..., d], exactly the codes in z's dtype.
    Raises: ValueError if the shapes differ.
    Example:
      >>> z, code = jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])  # a quarter turn and half the length
      >>> print(jax.jacobian(rotation_trick)(z, code).round(3) + 0.0)
      [[ 0.  -0.5]
       [ 0.5  0. ]]

    References: Fifty et al. 2025, section 4.2.
    """
    z, codes = jnp.asarray(z), jnp.asarray(codes)
    check_same_shape("rotation_trick", z, codes)
    vectors, targets = lift(z, codes)
    source, source_norm = unit(jax.lax.stop_gradient(vectors))
    target, target_norm = unit(jax.lax.stop_gradient(targets))
    short = source_norm <= 1e-6 * target_norm
    scale = target_norm / jnp.where(short, 1, source_norm)
    bisector, length = unit(source + target)
    # nearly opposite: the sum is rounding noise, and so would be its direction
    bisector = jnp.where(length > 100 * jnp.finfo(length.dtype).eps, bisector, 0)
    turned = vectors - 2 * bisector * _dot(bisector, vectors) + 2 * target * _dot(source, vectors)
    passed = jnp.where(short, vectors, scale * turned)
    return jax.lax.stop_gradient(narrow(targets, z)) + _zero(narrow(passed, z))


def commitment_loss(z: jax.Array, codes: jax.Array) -> jax.Array:
    r"""Commitment loss :math:`|z - \mathrm{sg}(c)|^2`, summed over d: keeps vectors near their codes, with the gradient to z only.

    Args:
      z: [..., d].
      codes: [..., d].
    Returns: [...], one value per vector, neither averaged nor weighted (beta is 0.25 in the paper), float32 or wider.
    Raises: ValueError if the shapes differ.
    Example:
      >>> commitment_loss(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2)))
      Array([25.], dtype=float32)

    References: van den Oord, Vinyals & Kavukcuoglu 2017, eq. 3, last term.
    """
    return _squared_error("commitment_loss", z, jax.lax.stop_gradient(codes))


def codebook_loss(z: jax.Array, codes: jax.Array) -> jax.Array:
    r"""Codebook loss :math:`|\mathrm{sg}(z) - c|^2`, summed over d: pulls codes to their vectors; gradient to the codes only.

    Leave it out where ``update_codebook`` moves the codes.

    Args:
      z: [..., d].
      codes: [..., d], from ``lookup``, so that the gradient reaches the codebook.
    Returns: [...], one value per vector, not averaged, float32 or wider.
    Raises: ValueError if the shapes differ.
    Example:
      >>> codebook_loss(jnp.array([[3.0, 4.0]]), jnp.zeros((1, 2)))
      Array([25.], dtype=float32)

    References: van den Oord, Vinyals & Kavukcuoglu 2017, eq. 3, second term.
    """
    return _squared_error("codebook_loss", jax.lax.stop_gradient(z), codes)


def _squared_error(name: str, z: jax.Array, codes: jax.Array) -> jax.Array:
    z, codes = jnp.asarray(z), jnp.asarray(codes)
    check_same_shape(name, z, codes)
    z, codes = lift(z, codes)
    return jnp.sum(jnp.square(z - codes), axis=-1)


def _zero(x: jax.Array) -> jax.Array:
    """Return exactly zero, with the gradient of x: added to a constant it keeps the constant's last digit."""
    return x - jax.lax.stop_gradient(x)


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b, axis=-1, keepdims=True)
