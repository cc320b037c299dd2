"""Posteriors that a Hamiltonian flow moves towards p(z|x): the gradient of log p(x, z) drives them through the decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.distributions import Distribution
from vaex.distributions.family import family
from vaex.flows import PhasePoint, leapfrog, quadratic_tempering
from vaex.models.latent import Posterior, sample_and_log_prob
from vaex.models.posteriors import ModelView

DRAWS = 64  # of which the moments of a posterior are taken
FIRST_TEMPERATURE, FIRST_SHARE = 0.3, 0.1  # beta_0, and the step size as a share of the largest


@family
class HamiltonianPosterior:
    """Distribution of where K leapfrog steps lead from a draw of ``start`` and a Gaussian momentum.

    The density of z is not known; ``sample_and_log_prob`` has that of z and momentum, divided by N(0, I) of the last momentum.
    """

    start: Any  # q(z_0|x)
    log_joint: Callable[[jax.Array], jax.Array]  # of ``ModelView``, a pytree
    step_size: jax.Array
    inverse_temperatures: jax.Array

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of ``start``."""
        return self.start.batch_shape

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Event shape of ``start``."""
        return self.start.event_shape

    def move(self, z: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return where the flow leads from z [..., b, d] and N(0, I) ``noise``, and what it adds to log q(z) [..., b]."""
        schedule = self.inverse_temperatures
        start = PhasePoint(z, noise * jax.lax.rsqrt(schedule[0]))
        # the log-determinant cancels with that of the first momentum's scale
        end, _ = leapfrog(self.log_joint, start, step_size=self.step_size, inverse_temperatures=schedule)
        return end.position, 0.5 * jnp.sum(jnp.square(end.momentum) - jnp.square(noise), axis=-1)

    def sample_and_log_prob(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
        """Draw z, with log q(z_0, rho_0|x) - log |det| - log N(rho_K; 0, I), nats."""
        start_key, momentum_key = jax.random.split(key)
        z, log_q = sample_and_log_prob(start_key, self.start, math.prod(sample_shape))
        z, added = self.move(z, jax.random.normal(momentum_key, z.shape, z.dtype))
        log_q = log_q + added
        return z.reshape(*sample_shape, *z.shape[1:]), log_q.reshape(*sample_shape, *log_q.shape[1:])

    def sample(self, key: jax.Array, sample_shape: tuple[int, ...] = ()) -> jax.Array:
        """Draw z, as ``sample_and_log_prob`` does."""
        return self.sample_and_log_prob(key, sample_shape)[0]

    def log_prob(self, value: jax.Array) -> jax.Array:
        """Raise NotImplementedError: the momentum cannot be integrated out."""
        raise NotImplementedError(
            f"{type(self).__name__}.log_prob: the density of z alone is not known; use sample_and_log_prob"
        )

    @property
    def _draws(self) -> jax.Array:
        """[DRAWS, b, d]; all examples share the noise, so that their moments do not depend on the batch they are in."""
        start_key, momentum_key = jax.random.split(jax.random.key(0))
        z = jnp.swapaxes(jax.vmap(lambda row: row.sample(start_key, (DRAWS,)))(self.start), 0, 1)
        noise = jax.random.normal(momentum_key, (DRAWS, *self.event_shape), z.dtype)
        return jax.lax.map(lambda pair: self.move(pair[0], jnp.broadcast_to(pair[1], z.shape[1:]))[0], (z, noise))

    @property
    def mean(self) -> jax.Array:
        """[b, d], within an eighth of a standard deviation."""
        return jnp.mean(self._draws, axis=0)

    @property
    def variance(self) -> jax.Array:
        """[b, d], within a fifth."""
        return jnp.var(self._draws, axis=0)


def init_leapfrog(latent_dim: int) -> dict[str, jax.Array]:
    """Return what is learned of the leapfrog: "step_size" [d] and "temperature" [], logits."""
    step_size, temperature = (np.log(share / (1.0 - share)) for share in (FIRST_SHARE, FIRST_TEMPERATURE))
    return {"step_size": jnp.full(latent_dim, step_size), "temperature": jnp.full((), temperature)}


def leapfrog_of(params: PyTree, hparams: PyTree, steps: int) -> tuple[jax.Array, jax.Array]:
    """Return step sizes [d], up to ``hparams.max_step_size``, and inverse temperatures [steps + 1]."""
    schedule = quadratic_tempering(steps, initial=jax.nn.sigmoid(params["temperature"]))
    return hparams.max_step_size * jax.nn.sigmoid(params["step_size"]), schedule


def hamiltonian_posterior(base: Posterior, latent_dim: int, steps: int) -> Posterior:
    """Return ``base``, which has no parameters, moved by ``steps`` leapfrog steps of learned sizes and first temperature."""

    def refine(params: PyTree, hparams: PyTree, start: Distribution, view: ModelView) -> HamiltonianPosterior:
        return HamiltonianPosterior(start, view.log_joint, *leapfrog_of(params, hparams, steps))

    return base._replace(init=lambda key: init_leapfrog(latent_dim), refine=refine)
