"""Learned metrics of a latent space: posteriors by a flow on the manifold, and samples near the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from vaex.bounds import annealed_log_weights
from vaex.core import PyTree, Sample, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.distributions.family import family
from vaex.flows import PhasePoint, generalized_leapfrog
from vaex.models import networks
from vaex.models.latent import Components, Posterior
from vaex.models.likelihoods import soft_clip
from vaex.models.networks import NetworkConfig
from vaex.models.posteriors import ModelView
from vaex.models.priors._hamiltonian import HamiltonianPosterior, init_leapfrog, leapfrog_of

CHAIN_STEP = 0.1  # of the leapfrog in sampling, in units of the metric's length


class Metric(NamedTuple):
    r"""Metric :math:`G(z) = (\sum_i L_i L_i^\top \exp(-|z - c_i|^2/T^2) + \lambda I)^{-1}`, small near the centroids.

    Attributes:
      centroids: c, [m, d].
      factors: lower triangular L, [m, d, d].
      temperature: T, a length.
      regularization: lambda.

    References: Chadebec et al. 2020, eq. 11.
    """

    centroids: jax.Array
    factors: jax.Array
    temperature: jax.Array
    regularization: jax.Array

    def inverse(self, z: jax.Array) -> jax.Array:
        """Return the inverse of G at z [..., d], [..., d, d]."""
        m, d = self.centroids.shape
        distances = jnp.sum(jnp.square(z[..., None, :] - self.centroids), axis=-1)
        kernel = jnp.exp(-distances / jnp.square(self.temperature))
        products = jnp.einsum("mij,mkj->mik", self.factors, self.factors).reshape(m, d * d)
        return (kernel @ products).reshape(*z.shape, d) + self.regularization * jnp.eye(d, dtype=z.dtype)

    def log_volume(self, z: jax.Array) -> jax.Array:
        """Return log sqrt(det G) at z [..., d], [...]."""
        return -_half_log_det(jnp.linalg.cholesky(self.inverse(z)))

    def kinetic(self, z: jax.Array, momentum: jax.Array) -> jax.Array:
        """Return the kinetic energy -log N(momentum; 0, G(z)) without its constant, [...], at z and momentum [..., d]."""
        velocity = jnp.einsum("...ij,...j->...i", self.inverse(z), momentum)
        return self.log_volume(z) + 0.5 * jnp.sum(momentum * velocity, axis=-1)


def _half_log_det(cholesky: jax.Array) -> jax.Array:
    return jnp.sum(jnp.log(jnp.diagonal(cholesky, axis1=-2, axis2=-1)), axis=-1)


def lower_triangular(raw: jax.Array, d: int) -> jax.Array:
    """Return lower triangular matrices [m, d, d] with positive diagonals from the outputs [m, d (d + 1) / 2] of a network."""
    rows, columns = jnp.tril_indices(d, -1)
    diagonal = jnp.exp(soft_clip(raw[:, :d]))[..., None] * jnp.eye(d)
    return diagonal.at[:, rows, columns].set(raw[:, d:])


@family
class RiemannianPosterior(HamiltonianPosterior):
    """Distribution of where K generalized leapfrog steps lead from a draw of ``start`` and a momentum of N(0, G(z))."""

    metric: Metric

    def move(self, z: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return where the flow leads from z [..., b, d] and N(0, I) ``noise``, and what it adds to log q(z) [..., b]."""
        schedule, metric = self.inverse_temperatures, self.metric
        cholesky = jnp.linalg.cholesky(
            metric.inverse(z)
        )  # C C' is the inverse of G, so that inv(C') noise is of N(0, G)
        momentum = solve_triangular(cholesky, noise[..., None], lower=True, trans=1)[..., 0]
        start = PhasePoint(z, momentum * jax.lax.rsqrt(schedule[0]))
        end, _ = generalized_leapfrog(
            self.log_joint, metric.kinetic, start, step_size=self.step_size, inverse_temperatures=schedule
        )
        added = metric.kinetic(*end) - 0.5 * jnp.sum(jnp.square(noise), axis=-1) + _half_log_det(cholesky)
        return end.position, added


class EncodeExamples(Protocol):
    """Returns q(z|x) of x [m, *shape]."""

    def __call__(self, variables: Variables, hparams: PyTree, x: jax.Array, /) -> RiemannianPosterior: ...


def riemannian_posterior(base: Posterior, config: NetworkConfig, spec: Spec, steps: int) -> Posterior:
    """Return ``base``, which has no parameters, moved by ``steps`` generalized leapfrog steps through a learned metric.

    A network, of the kind that ``config`` names, gives the factors of the metric; ``hparams.metric_temperature`` and
    ``hparams.metric_regularization`` its scales. The model adds "references" to the parameters: the examples [m, *shape] whose
    codes are the centroids.
    """
    d = config.latent_dim
    network = networks.encoder_module(config, spec, d * (d + 1) // 2)

    def init(key: jax.Array) -> PyTree:
        return init_leapfrog(d) | {
            "metric": network.init(key, jnp.zeros((1, *networks.network_shape(spec))), None)["params"]
        }

    def refine(params: PyTree, hparams: PyTree, start: Distribution, view: ModelView) -> RiemannianPosterior:
        x, scales = params["references"], (hparams.metric_temperature, hparams.metric_regularization)
        raw: Any = network.apply({"params": params["metric"]}, networks.network_inputs(spec, x), None)
        factors = lower_triangular(raw, d) / math.sqrt(len(x))  # untrained, G is near 1 where codes are, however many
        metric = Metric(view.encode(x).mean, factors, *scales)
        return RiemannianPosterior(start, view.log_joint, *leapfrog_of(params, hparams, steps), metric)

    return base._replace(init=init, refine=refine)


def sample_manifold(key: jax.Array, metric: Metric, prior: Distribution, n: int, *, transitions: int) -> jax.Array:
    """Draw z [n, d] with a density proportional to p(z) / sqrt(det G(z)), by chains of Hamiltonian Monte Carlo from centroids."""
    start_key, chain_key = jax.random.split(key)
    start = metric.centroids[jax.random.randint(start_key, (n,), 0, len(metric.centroids))]

    def log_density(z: jax.Array) -> jax.Array:
        return prior.log_prob(z) - metric.log_volume(z)

    def nothing(z: jax.Array) -> jax.Array:
        return jnp.zeros(z.shape[:-1])

    betas = jnp.linspace(0.0, 1.0, transitions + 1)  # without effect: all transitions have this density
    step_size = CHAIN_STEP * metric.temperature
    return annealed_log_weights(chain_key, start, log_density, nothing, betas=betas, step_sizes=step_size).z


def samples_near_data(
    components: Components,
    encode: EncodeExamples,
    params_of: Callable[[Variables], PyTree],
    transitions: int,
) -> Sample:
    """Return the function that samples p(x|z) at codes of ``sample_manifold``, for ``Model.sample``.

    Args:
      components: of the model.
      encode: of the model, whose state are the examples of which the centroids are codes.
      params_of: variables -> the tree that the components take.
      transitions: of the Markov chain of each code.
    """

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        metric, prior = encode(variables, hparams, variables.state).metric, components.prior({}, hparams)
        z = sample_manifold(key, metric, prior, n, transitions=transitions)
        return components.decode(params_of(variables), hparams, z, {})

    return sample
