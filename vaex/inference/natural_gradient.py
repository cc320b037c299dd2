"""Natural-gradient steps of a full-rank Gaussian: Newton's method on the ELBO, whose precision stays positive definite."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.errors import UserError
from vaex.inference.families import FullRank
from vaex.inference.fitting import History, LogDensity, log_target

Params = dict[str, jax.Array]


def natural_step(
    key: jax.Array, params: Params, log_density: LogDensity, family: FullRank, *, rate: ArrayLike, num_samples: int
) -> tuple[Params, jax.Array]:
    r"""Take one step along the natural gradient of the ELBO.

    With :math:`H = -E_q[\nabla^2 \log p]` of the unconstrained vector: precision
    :math:`S \leftarrow (1 - \rho) S + \rho H + \frac{\rho^2}{2} (H - S) S^{-1} (H - S)`, mean
    :math:`m \leftarrow m + \rho S^{-1} E_q[\nabla \log p]` with the new precision. The last term of the precision is of second
    order and keeps it positive definite.

    Args:
      key: a key of this step alone.
      params: of ``family``.
      log_density: one pytree of parameters -> scalar, nats, up to a constant; twice differentiable.
      family: a ``FullRank``.
      rate: rho, in (0, 1]; may be traced.
      num_samples: k, of each expectation; odd ones are antithetic to even ones.
    Returns: the next parameters, and the loss before the step, nats.
    References: Khan & Rue 2023, section 4.1; Lin, Schmidt & Khan 2020, eq. 11 (the last term).
    """
    target = log_target(log_density, family)
    posterior = family.distribution(params)
    root = posterior.scale_tril
    half = jax.random.normal(key, ((num_samples + 1) // 2, family.space.size), root.dtype)
    noise = jnp.concatenate([half, -half])[:num_samples]
    z = posterior.loc + noise @ root.T
    slope = jnp.mean(jax.vmap(jax.grad(target))(z), axis=0)
    curvature = -jnp.mean(jax.vmap(jax.hessian(target))(z), axis=0)
    identity = jnp.eye(family.space.size, dtype=root.dtype)
    change = root.T @ curvature @ root - identity  # in the metric of the old precision
    bracket = identity + rate * change + 0.5 * jnp.square(rate) * change @ change
    factor = jnp.linalg.cholesky(bracket)
    covariance_root = jax.scipy.linalg.solve_triangular(factor, root.T, lower=True).T
    covariance = covariance_root @ covariance_root.T
    loss = jnp.mean(posterior.log_prob(z) - target(z))
    return family.params(posterior.loc + rate * covariance @ slope, covariance), loss


def fit_natural(
    key: jax.Array,
    log_density: LogDensity,
    family: FullRank,
    *,
    rate: ArrayLike = 0.5,
    steps: int = 50,
    num_samples: int = 32,
    params: Params | None = None,
) -> tuple[Params, History]:
    """Fit a full-rank Gaussian by natural gradients of the reverse KL: tens of steps where Adam takes thousands.

    A step costs a Hessian of each sample, so this is for few parameters. Where the density is far from log-concave, a smaller
    rate and a start near the mode (``laplace``) help.

    Args:
      key: a key; step t folds in t.
      log_density: one pytree of parameters -> scalar, nats, up to a constant; twice differentiable.
      family: a ``FullRank``.
      rate: of the steps, in (0, 1].
      steps: their number.
      num_samples: of each expectation.
      params: to begin from; by default the family's own.
    Returns: the parameters, and the history of losses as ``fit`` has it.
    Raises: UserError for another family or fewer than one step.
    Example:
      >>> from vaex.inference import FullRank
      >>> params, _ = fit_natural(jax.random.key(0), lambda x: -2.0 * jnp.sum((x - 1.0) ** 2), FullRank(2), steps=20)
      >>> print(jnp.round(FullRank(2).distribution(params).covariance, 3))
      [[0.25 0.  ]
       [0.   0.25]]
    """
    if not isinstance(family, FullRank) or steps < 1:
        raise UserError(
            f"fit_natural: family is {type(family).__name__}, steps is {steps}; expected FullRank, at least 1"
        )
    first = family.init(key) if params is None else params

    def advance(params: Params, number: jax.Array) -> tuple[Params, jax.Array]:
        step_key = jax.random.fold_in(key, number)
        return natural_step(step_key, params, log_density, family, rate=rate, num_samples=num_samples)

    last, losses = jax.lax.scan(advance, first, jnp.arange(steps))
    return last, History(losses, jnp.asarray(steps))
