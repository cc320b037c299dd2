"""Objectives: losses of a variational distribution, in nats, whose ``jax.grad`` is an estimator of the gradient.

Each function here gives an ``VariationalObjective``, to be passed to ``fit``. Hyperparameters such as alpha may be traced.

| objective | loss | gradient |
|---|---|---|
| ``reverse_kl`` | minus the ELBO: KL(q, p) - log Z | path, score function, leave-one-out, VIMCO |
| ``forward_kl`` | cross-entropy of p and q: KL(p, q) + H(p) | self-normalised weights; biased, consistent |
| ``importance`` | minus the importance bound of num_samples | path (DReG), score function, leave-one-out, VIMCO |
| ``renyi`` | minus the Renyi bound, or the bound where it is an upper one (alpha < 0) | path; biased, consistent |
| ``chi`` | the chi upper bound (CUBO) | path; biased, consistent |
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import bounds, estimators
from vaex.distributions import Delta, Distribution, Mixture
from vaex.errors import UserError
from vaex.estimators import LogJoint

Estimator = Literal[
    "reparameterized", "sticking_the_landing", "doubly_reparameterized", "score_function", "leave_one_out", "vimco"
]


class VariationalObjective(Protocol):
    """Loss of a distribution against an unnormalised target."""

    def __call__(self, key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int, /) -> jax.Array:
        """Return the loss, a scalar in nats.

        Args:
          key: a key.
          posterior: q, of batch shape () and event shape (d,).
          log_joint: z [k, d] -> log-density of the unconstrained vector [k], up to a constant.
          num_samples: k.
        """
        ...


def reverse_kl(estimator: Estimator = "sticking_the_landing") -> VariationalObjective:
    r"""Minus the ELBO: :math:`\mathrm{KL}(q\,\|\,p) - \log Z`. Seeks a mode where q cannot hold all.

    Of a ``Mixture`` every component gives num_samples samples. Of a ``Delta`` the loss is minus the log-density, no samples.

    Args:
      estimator: of the gradient; see ``vaex.estimators``. "doubly_reparameterized" is here "sticking_the_landing". Score
        functions serve samples that carry no gradients. A mixture has "reparameterized" and "sticking_the_landing".
    Raises: UserError for an unknown estimator, here or where the distribution does not have one.
    References: Kingma & Welling 2014, section 2.4; Roeder, Wu & Duvenaud 2017, eq. 6.
    """
    _check("reverse_kl", estimator, get_args(Estimator))

    def loss(key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int) -> jax.Array:
        if isinstance(posterior, Delta):
            return -log_joint(posterior.loc)
        if isinstance(posterior, Mixture):
            log_weights, log_shares = _stratified("reverse_kl", key, posterior, log_joint, num_samples, estimator)
            return -jnp.sum(jnp.exp(log_shares) * jnp.mean(log_weights, axis=0))
        # of a mean, whose second derivatives are zero, DReG's path has its plain weight
        name = "sticking_the_landing" if estimator == "doubly_reparameterized" else estimator
        return -getattr(estimators, name)(key, posterior, log_joint, num_samples, bound=_average)

    return loss


def importance(estimator: Estimator = "doubly_reparameterized") -> VariationalObjective:
    r"""Minus the importance bound :math:`\log\frac1k\sum_i w_i` of all samples.

    Args:
      estimator: of the gradient; see ``vaex.estimators``. A mixture, whose samples are stratified, has "reparameterized" alone.
    Raises: UserError for an unknown estimator, here or where the distribution does not have one.
    References: Burda, Grosse & Salakhutdinov 2016, eq. 8; Morningstar et al. 2021, eq. 9 (stratified).
    """
    _check("importance", estimator, get_args(Estimator))

    def loss(key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int) -> jax.Array:
        if isinstance(posterior, Mixture):
            log_weights, log_shares = _stratified("importance", key, posterior, log_joint, num_samples, estimator)
            shared = log_weights + log_shares + math.log(log_shares.shape[-1])
            return -bounds.importance_bound(jnp.reshape(shared, -1))
        return -getattr(estimators, estimator)(key, posterior, log_joint, num_samples, bound=bounds.importance_bound)

    return loss


def renyi(alpha: ArrayLike) -> VariationalObjective:
    """Renyi's bound of order alpha: 1 is the ELBO, 0 the importance bound; below 0 it is an upper bound and the loss itself.

    Args:
      alpha: the order; may be traced.
    References: Li & Turner 2016, eqs. 3 and 6.
    """

    def loss(key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int) -> jax.Array:
        _no_mixture("renyi", posterior)
        value = estimators.reparameterized(
            key, posterior, log_joint, num_samples, bound=lambda w: bounds.renyi_bound(w, alpha=alpha)
        )
        return jnp.where(jnp.asarray(alpha) < 0, value, -value)

    return loss


def chi(power: ArrayLike = 2.0) -> VariationalObjective:
    """Chi upper bound (CUBO), which is minimised. Covers the target's mass.

    The bound is infinite where the tails of q are lighter than those of the target's power; there the gradient of a few samples
    misleads and the fit may diverge. Begin with a q that is wider than the target (``scale``).

    Args:
      power: n, at least 1; may be traced.
    Raises: ValueError from ``vaex.bounds.chi_upper_bound`` for a power below 1.
    References: Dieng et al. 2017, eq. 3.
    """

    def loss(key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int) -> jax.Array:
        _no_mixture("chi", posterior)
        return estimators.reparameterized(
            key, posterior, log_joint, num_samples, bound=lambda w: bounds.chi_upper_bound(w, power=power)
        )

    return loss


def forward_kl(proposal: Distribution | None = None) -> VariationalObjective:
    r"""Cross-entropy :math:`-E_p[\log q]`, by self-normalised importance weights. Covers the target's mass.

    The expectation under the normalised target is taken by samples of a proposal; samples need carry no gradients. With q
    for proposal, mass that q does not reach is not seen: start from a q that is wide enough.

    Args:
      proposal: distribution over the unconstrained vector, [d]; q itself where None.
    References: Bornschein & Bengio 2015, eq. 8 (reweighted wake-sleep).
    """

    def loss(key: jax.Array, posterior: Distribution, log_joint: LogJoint, num_samples: int) -> jax.Array:
        source = jax.lax.stop_gradient(posterior) if proposal is None else proposal
        z = jax.lax.stop_gradient(source.sample(key, (num_samples,)))
        log_weights = jax.lax.stop_gradient(log_joint(z) - source.log_prob(z))
        return -jnp.sum(bounds.normalized_weights(log_weights) * posterior.log_prob(z))

    return loss


def _average(log_weights: jax.Array) -> jax.Array:
    return jnp.mean(log_weights, axis=0)


def _stratified(
    name: str, key: jax.Array, posterior: Mixture, log_joint: LogJoint, num_samples: int, estimator: str
) -> tuple[jax.Array, jax.Array]:
    """Log weights [k, components] of samples of every component, and the log of the components' weights [components]."""
    allowed = ("reparameterized", "sticking_the_landing") if name == "reverse_kl" else ("reparameterized",)
    _check(f"{name} of a mixture", estimator, allowed)
    z = posterior.components.sample(key, (num_samples,))
    # summed over the strata the score of q has mean zero, as for one distribution
    density = jax.lax.stop_gradient(posterior) if estimator == "sticking_the_landing" else posterior
    flat = z.reshape(-1, z.shape[-1])
    log_weights = (log_joint(flat) - density.log_prob(flat)).reshape(z.shape[:-1])
    return log_weights, jax.nn.log_softmax(posterior.logits)


def _no_mixture(name: str, posterior: Distribution) -> None:
    if isinstance(posterior, Mixture):
        raise UserError(
            f"{name}: got a mixture, whose samples carry no gradients to its weights; use reverse_kl, importance or forward_kl"
        )


def _check(name: str, estimator: str, known: tuple[str, ...]) -> None:
    if estimator not in known:
        raise UserError(f"{name}: estimator is {estimator!r}, expected one of {', '.join(known)}")
