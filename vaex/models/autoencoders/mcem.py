r"""Monte Carlo EM: there is no encoder; Hamiltonian chains draw codes from the posterior of each batch.

E step: for every example z ~ p(z|x), by annealed Hamiltonian transitions from the prior. M step: ``updates`` gradient steps on
:math:`-\log p(x, z)` at these codes, in nats per example. A training step is both, so its cost is that of the chains: the method
visits data as slowly as they run, where an encoder costs one pass.

The chains' importance weights are unbiased, so ``log_weights`` (and the log-likelihood that is reported) are those of annealed
importance sampling, with as many chains as samples. A code is the Gaussian of the moments of 16 chains, of fixed noise.

Source: Kingma & Welling 2014, section 5 and appendix E, whose chains are not annealed; Wei & Tanner 1990.
Command: ``python experiments/run.py --model=mcem --latent_dim=3 --steps=1000``
Result: digits, test: elbo -105 +- 0.9, log-likelihood -97.8 (K = 100), 3 active units of 3.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import bounds
from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Algorithm, Batch, Metrics, Model, Outcome, PyTree, Recipe, Stage, TrainState, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution, Normal
from vaex.errors import UserError
from vaex.models import latent, likelihoods, networks
from vaex.models.gaussian import TINY as TINY_NETWORKS
from vaex.models.networks import NetworkConfig
from vaex.ops.threefry import fold_in
from vaex.schedules import Scalar, resolve
from vaex.training.step import gradient_algorithm

__all__ = ["TINY", "Config", "HParams", "build"]

TINY = {**TINY_NETWORKS, "temperatures": 3, "leapfrog_steps": 2, "updates": 2}
CHAINS = 16  # whose moments are a code's
LEAST_SCALE = 1e-3


@options
class Config(NetworkConfig):
    """Options of Monte Carlo EM; of the networks only the decoder is used."""

    temperatures: int = option(20, low=1, doc="Transitions of a chain, from the prior to the posterior.")
    leapfrog_steps: int = option(10, low=1, doc="Leapfrog steps of a transition; each takes a gradient of the decoder.")
    updates: int = option(5, low=1, doc="Gradient steps on the codes of one E step.")

    def check(self) -> None:
        super().check()
        if self.encoder is not None:
            raise UserError("--encoder does nothing here: Monte Carlo EM has none; leave it out")


@hyperparameters
class HParams(latent.HParams):
    """Hyperparameters of the likelihood, and of the chains."""

    step_size: Scalar = hparam(0.2, low=1e-06, doc="Step size of the leapfrog.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of a decoder that is trained on codes drawn by Hamiltonian chains."""
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean)
    net = networks.networks(config, spec, 1, likelihood)
    prior = Normal(jnp.zeros(config.latent_dim), 1.0)
    betas = bounds.annealing_schedule(config.temperatures)

    def init(key: jax.Array, batch: Batch) -> Variables:
        params = net.init(key, batch)
        params.pop("encoder")
        return Variables({"decoder": params})

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        return net.decode(variables.params["decoder"], hparams.sigma, z)

    def chains(
        key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int
    ) -> bounds.AnnealedWeights:
        """Chains [k, b, d] from the prior to the posterior of each example."""
        start_key, chain_key = jax.random.split(key)
        return bounds.annealed_log_weights(
            chain_key,
            prior.sample(start_key, (num_samples, batch["x"].shape[0])),
            prior.log_prob,
            lambda z: decode(variables, hparams, z, batch).log_prob(batch["x"]),
            betas=betas,
            step_sizes=hparams.step_size,
            leapfrog_steps=config.leapfrog_steps,
        )

    def with_codes(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Batch:
        """E step: the batch with a code and its log weight for each example."""
        ends = jax.lax.stop_gradient(chains(key, variables, hparams, batch, 1))
        return batch | {"z": ends.z[0], "log_weight": ends.log_weights[0]}

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        given = batch if "z" in batch else with_codes(key, variables, hparams, batch)
        log_px = decode(variables, hparams, given["z"], given).log_prob(given["x"])
        named = {"elbo": given["log_weight"], "reconstruction": -log_px}
        metrics = named if likelihood.density else {"cross_entropy": -log_px}
        return Outcome({"decoder": -jnp.mean(log_px)}, variables.state, metrics)

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        def draws(x: jax.Array) -> jax.Array:
            return chains(jax.random.key(0), variables, hparams, {"x": x[None]}, CHAINS).z[:, 0]

        z = jax.vmap(draws, out_axes=1)(batch["x"])  # by one key, so that a code is a function of its example
        return Normal(jnp.mean(z, axis=0), jnp.maximum(jnp.std(z, axis=0, ddof=1), LEAST_SCALE))

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        return chains(key, variables, hparams, batch, num_samples).log_weights

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        return decode(variables, hparams, prior.sample(key, (n,)), {})

    model = Model(init, objective, encode, decode, log_weights if likelihood.density else None, sample)
    maximise = gradient_algorithm(model, optimizer=config.optimizer)
    algorithm = expectation_maximisation(maximise, with_codes, config.updates)
    return Recipe((Stage("model", model, algorithm),), likelihood.summary)


class ExpectationStep(Protocol):
    """Returns the batch with what the M step reads."""

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /) -> Batch: ...


def expectation_maximisation(maximise: Algorithm, expect: ExpectationStep, updates: int) -> Algorithm:
    """Return the algorithm whose step is one E step and ``updates`` steps of ``maximise`` on what it found.

    Metrics are those of the first update, before any parameter has moved; ``finite`` is of all.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        number = state.step
        given = expect(fold_in(state.key, number), state.variables, resolve(state.hparams, number), batch)

        def update(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
            state, metrics = maximise.step(state, given)
            return state._replace(step=number), metrics

        state, history = jax.lax.scan(update, state, None, length=updates)
        metrics = jax.tree.map(lambda values: values[0], history) | {"finite": jnp.min(history["finite"])}
        return state._replace(step=number + 1), metrics

    def vary(accumulate: int, frozen: tuple[str, ...]) -> Algorithm:
        return (
            expectation_maximisation(maximise.vary(accumulate, frozen), expect, updates) if maximise.vary else maximise
        )

    return Algorithm(maximise.init, step, vary)
