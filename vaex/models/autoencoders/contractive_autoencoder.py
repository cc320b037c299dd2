r"""Contractive autoencoder: codes that change little where inputs do.

Objective, in nats per example: :math:`-\log p(x|z) + \lambda\,\|\partial f(x)/\partial x\|_F^2`, f the encoder; its Jacobian is
exact, for any network. ``jacobian_norm`` is the mean Frobenius norm. It also falls where all codes shrink and the decoder
makes up for it, so ``relative_jacobian_norm`` is normalised by the spread of the codes, the square root of their total variance.

Source: Rifai et al. 2011, Contractive auto-encoders, eqs. 1 and 2.
Command: ``python experiments/run.py --model=contractive_autoencoder --contraction=0,1 --seeds=0:3``
Result: digits, test: norm of the Jacobian 1.13, reconstruction 77.9 nats (``autoencoder``: 119.4). Over several weights:
experiments/autoencoders.py.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaex.configuration import hparam, hyperparameters
from vaex.core import Metrics, PyTree, Recipe
from vaex.data.spec import Spec
from vaex.models.autoencoders import _point as point
from vaex.models.autoencoders._point import TINY, Config
from vaex.schedules import Scalar

__all__ = ["TINY", "Config", "HParams", "build", "squared_jacobian_norm"]


@hyperparameters
class HParams(point.HParams):
    """Hyperparameters of an autoencoder, and the weight of the contraction."""

    contraction: Scalar = hparam(1.0, low=0.0, doc="Weight of the squared norm of the encoder's Jacobian.")


def squared_jacobian_norm(encode: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Squared Frobenius norm of the Jacobian of ``encode`` at each example: [b].

    Examples do not interact, so one pullback of the batch gives one row of the Jacobian of each example. As many passes are
    needed as there are latents, which are fewer than the inputs.

    Args:
      encode: x [b, *shape] -> codes [b, d], each example on its own.
      x: [b, *shape].
    Example:
      >>> squared_jacobian_norm(lambda x: x @ jnp.array([[1.0, 2.0], [0.0, 2.0]]), jnp.ones((3, 2)))
      Array([9., 9., 9.], dtype=float32)
    """
    z, pullback = jax.vjp(encode, x)
    basis = jnp.broadcast_to(jnp.eye(z.shape[-1], dtype=z.dtype)[:, None, :], (z.shape[-1], *z.shape))
    (rows,) = jax.vmap(pullback)(basis)
    return jnp.sum(jnp.square(rows), axis=(0, *range(2, rows.ndim)))


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an autoencoder with the penalty of eq. 2, by an exact Jacobian."""

    def penalty(hparams: PyTree, terms: point.Terms) -> tuple[jax.Array, Metrics]:
        squared = squared_jacobian_norm(terms.encode, terms.x)
        norm, spread = jnp.sqrt(squared), jnp.sqrt(jnp.trace(terms.moments["covariance"]))
        return hparams.contraction * squared, {"jacobian_norm": norm, "relative_jacobian_norm": norm / spread}

    return point.recipe(config, spec, penalty=penalty)
