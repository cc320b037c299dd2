"""Bayesian mixture of Gaussians by coordinate ascent."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, multigammaln
from jax.typing import ArrayLike

from vaex.distributions.gaussian import LOG_2PI
from vaex.errors import UserError
from vaex.ops.arrays import lift
from vaex.ops.log_sum_exp import log_sum_exp


class MixturePrior(NamedTuple):
    """Prior of a mixture: weights ~ Dirichlet, precision ~ Wishart, mean ~ N(``loc``, (``strength`` precision)^-1).

    ``concentration`` of the Dirichlet, one or [c]; ``loc`` [d]; ``degrees`` of freedom of the Wishart, above d - 1;
    ``scatter`` [d, d], the inverse of its scale matrix. What is None follows the data, as in scikit-learn: 1 / c, the mean, d, the
    covariance.
    """

    concentration: ArrayLike | None = None
    loc: ArrayLike | None = None
    strength: ArrayLike = 1.0
    degrees: ArrayLike | None = None
    scatter: ArrayLike | None = None


class MixtureFit(NamedTuple):
    """Result of ``fit_mixture``.

    q(weights) = Dirichlet(``concentration`` [c]); of each component precision ~ Wishart(``degrees`` [c], inverse ``scatter``
    [c, d, d]), mean ~ N(``loc`` [c, d], (``strength`` [c] precision)^-1). ``responsibilities`` [n, c]. ``elbo`` [steps]: after each
    sweep, all constants included, nats; it never falls.
    """

    concentration: jax.Array
    loc: jax.Array
    strength: jax.Array
    degrees: jax.Array
    scatter: jax.Array
    responsibilities: jax.Array
    elbo: jax.Array

    @property
    def weights(self) -> jax.Array:
        """Expected weights [c]."""
        return self.concentration / jnp.sum(self.concentration)

    @property
    def covariances(self) -> jax.Array:
        """Inverses of the expected precisions [c, d, d]."""
        return self.scatter / self.degrees[:, None, None]

    def log_predictive(self, x: jax.Array) -> jax.Array:
        """Log-density of new observations: a mixture of Student's distributions (Bishop 2006, eq. 10.81).

        Args:
          x: [..., d].
        Returns: [...], nats.
        """
        size = self.loc.shape[-1]
        freedom = self.degrees + 1.0 - size
        roots = jnp.linalg.cholesky(self.scatter * ((1.0 + self.strength) / (self.strength * freedom))[:, None, None])
        distance = _distance(x[..., None, :] - self.loc, roots)
        normaliser = (
            gammaln(0.5 * (freedom + size))
            - gammaln(0.5 * freedom)
            - 0.5 * size * jnp.log(freedom * jnp.pi)
            - _half_log_det(roots)
        )
        student = normaliser - 0.5 * (freedom + size) * jnp.log1p(distance / freedom)
        return log_sum_exp(jnp.log(self.weights) + student, axis=-1)


def fit_mixture(
    x: jax.Array, responsibilities: jax.Array, *, prior: MixturePrior | None = None, steps: int = 100
) -> MixtureFit:
    """Mixture of Gaussians with unknown weights, means and covariances.

    A local optimum: try several first responsibilities (``vmap``), and keep the highest ELBO. Components that the data do not
    need keep their prior.

    Args:
      x: [n, d].
      responsibilities: to begin from, [n, c]; rows sum to 1.
      prior: of the parameters.
      steps: sweeps: parameters, then responsibilities.
    Returns: the fit.
    Raises: UserError if shapes disagree or steps is below 1.
    References: Bishop 2006, section 10.2.
    """
    x, responsibilities = lift(x, responsibilities)
    if x.ndim != 2 or responsibilities.ndim != 2 or responsibilities.shape[0] != x.shape[0] or steps < 1:
        raise UserError(
            f"fit_mixture: x has shape {x.shape}, responsibilities {responsibilities.shape}, steps is {steps}; expected "
            "[n, d], [n, c] and at least 1"
        )
    size, components = x.shape[1], responsibilities.shape[1]
    given = _complete(MixturePrior() if prior is None else prior, x, components)

    def sweep(fit: MixtureFit, _: None) -> tuple[MixtureFit, jax.Array]:
        parameters = _maximise(x, fit.responsibilities, given)
        roots = jnp.linalg.cholesky(parameters.scatter)
        # E[log |precision|] + d log 2 is in the digammas; E[log weights]
        half = jnp.arange(size, dtype=x.dtype)
        log_precision = (
            jnp.sum(digamma(0.5 * (parameters.degrees[:, None] - half)), axis=1)
            + size * jnp.log(2.0)
            - 2.0 * _half_log_det(roots)
        )
        log_weights = digamma(parameters.concentration) - digamma(jnp.sum(parameters.concentration))
        distance = _distance(x[:, None] - parameters.loc, roots)
        logits = log_weights + 0.5 * (
            log_precision - size * LOG_2PI - size / parameters.strength - parameters.degrees * distance
        )
        responsibilities = jax.nn.softmax(logits, axis=1)
        likelihood = jnp.sum(log_sum_exp(logits, axis=1))  # of data and labels, and the labels' entropy
        elbo = likelihood - _kl(parameters, given, log_precision, log_weights)
        return parameters._replace(responsibilities=responsibilities), elbo

    first = responsibilities / jnp.sum(responsibilities, axis=1, keepdims=True)
    fit, elbo = jax.lax.scan(sweep, _maximise(x, first, given), None, length=steps)
    return fit._replace(elbo=elbo)


class _Prior(NamedTuple):
    concentration: jax.Array
    loc: jax.Array
    strength: jax.Array
    degrees: jax.Array
    scatter: jax.Array


def _complete(prior: MixturePrior, x: jax.Array, components: int) -> _Prior:
    size = x.shape[1]
    concentration = 1.0 / components if prior.concentration is None else prior.concentration
    scatter = jnp.atleast_2d(jnp.cov(x.T)) if prior.scatter is None else prior.scatter
    return _Prior(
        jnp.broadcast_to(jnp.asarray(concentration, x.dtype), (components,)),
        jnp.mean(x, axis=0) if prior.loc is None else jnp.asarray(prior.loc, x.dtype),
        jnp.asarray(prior.strength, x.dtype),
        jnp.asarray(size if prior.degrees is None else prior.degrees, x.dtype),
        jnp.asarray(scatter, x.dtype),
    )


def _maximise(x: jax.Array, responsibilities: jax.Array, prior: _Prior) -> MixtureFit:
    """Posteriors of the parameters given the responsibilities (Bishop 2006, eqs. 10.51 to 10.63)."""
    counts = jnp.sum(responsibilities, axis=0)
    safe = jnp.maximum(counts, jnp.finfo(x.dtype).tiny)
    means = responsibilities.T @ x / safe[:, None]
    centred = x[:, None] - means
    within = jnp.einsum("nc,nci,ncj->cij", responsibilities, centred, centred)
    strength = prior.strength + counts
    shift = means - prior.loc
    between = (prior.strength * counts / strength)[:, None, None] * shift[:, :, None] * shift[:, None, :]
    loc = (prior.strength * prior.loc + counts[:, None] * means) / strength[:, None]
    scatter = prior.scatter + within + between
    nothing = jnp.zeros((), x.dtype)
    return MixtureFit(
        prior.concentration + counts, loc, strength, prior.degrees + counts, scatter, responsibilities, nothing
    )


def _kl(fit: MixtureFit, prior: _Prior, log_precision: jax.Array, log_weights: jax.Array) -> jax.Array:
    """KL of the parameters' posterior from their prior: Dirichlet, then normal-Wishart of each component."""
    size = fit.loc.shape[1]

    def log_normaliser(concentration: jax.Array) -> jax.Array:
        return gammaln(jnp.sum(concentration)) - jnp.sum(gammaln(concentration))

    dirichlet = log_normaliser(fit.concentration) - log_normaliser(prior.concentration)
    dirichlet += jnp.sum((fit.concentration - prior.concentration) * log_weights)

    def log_wishart(half_log_det: jax.Array, degrees: jax.Array) -> jax.Array:
        """Log normaliser, by half the log-determinant of the scatter matrix."""
        return degrees * half_log_det - 0.5 * degrees * size * jnp.log(2.0) - multigammaln(0.5 * degrees, size)

    roots, prior_root = jnp.linalg.cholesky(fit.scatter), jnp.linalg.cholesky(prior.scatter)
    inside = jax.scipy.linalg.solve_triangular(roots, jnp.broadcast_to(prior_root, roots.shape), lower=True)
    trace = jnp.sum(jnp.square(inside), axis=(1, 2))  # of prior scatter times inverse scatter
    wishart = log_wishart(_half_log_det(roots), fit.degrees) - log_wishart(_half_log_det(prior_root), prior.degrees)
    wishart += 0.5 * (fit.degrees - prior.degrees) * log_precision + 0.5 * fit.degrees * (trace - size)
    ratio = prior.strength / fit.strength
    shift = fit.degrees * _distance(fit.loc - prior.loc, roots)
    normal = 0.5 * (size * (ratio - 1.0 - jnp.log(ratio)) + prior.strength * shift)
    return dirichlet + jnp.sum(wishart + normal)


def _distance(difference: jax.Array, roots: jax.Array) -> jax.Array:
    """Squared lengths [..., c] of differences [..., c, d]; roots [c, d, d] are Cholesky factors of the metrics' inverses."""
    flat = jnp.moveaxis(difference.reshape(-1, *difference.shape[-2:]), 0, -1)  # [c, d, n]
    whitened = jax.scipy.linalg.solve_triangular(roots, flat, lower=True)
    return jnp.sum(jnp.square(whitened), axis=1).T.reshape(difference.shape[:-1])


def _half_log_det(root: jax.Array) -> jax.Array:
    """Half the log-determinant of a matrix, from its Cholesky factor [..., d, d]."""
    return jnp.sum(jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)), axis=-1)
