r"""Ex-post density of codes: a stage "density" that fits a mixture of Gaussians to the codes of a finished autoencoder.

:math:`q(z) = \sum_k \pi_k\,\mathcal N(z; \mu_k, \Sigma_k)` with full covariances, by expectation maximisation on the codes of the
training examples; one component is the Gaussian with their mean and covariance. Samples of the model then are decoded from q(z).

References: Ghosh et al. 2020, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex import distributions
from vaex.configuration import option, options
from vaex.core import Batch, EachExample, Model, Outcome, PyTree, Recipe, Stage, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models.networks import NetworkConfig
from vaex.samplers import fit_mixture
from vaex.training.step import fixed_algorithm


@options
class Config(NetworkConfig):
    """Options of an autoencoder, and the size of the mixture."""

    components: int = option(
        10, low=1, doc="Number of Gaussians in the mixture that is fitted to the codes after training; 1 is a Gaussian."
    )


def with_code_density(first: Recipe, config: Config, spec: Spec) -> Recipe:
    """Return the recipe of an autoencoder and, when it is trained, a density of its codes.

    Args:
      first: of the autoencoder, in one stage.
      config: gives the number of components.
      spec: of the data.
    Raises: UserError for more components than training examples.
    """
    if 0 < spec.num_training_examples < config.components:
        raise UserError(
            f"--components={config.components}: {spec.name} has {spec.num_training_examples} training examples; give at most as "
            "many components"
        )
    autoencoder, shape = first.stages[0], (config.components, config.latent_dim)
    begun = autoencoder.model

    def carry_over(finished: Mapping[str, Variables]) -> PyTree:
        density = {"logits": jnp.zeros(shape[0]), "means": jnp.zeros(shape)}
        density["scale_trils"] = jnp.broadcast_to(jnp.eye(shape[1]), (*shape, shape[1]))
        return {**finished[autoencoder.name]._asdict(), "density": density}

    def fit_state(key: jax.Array, variables: Variables, hparams: PyTree, examples: EachExample) -> PyTree:
        def code(keys: jax.Array, batch: Batch) -> jax.Array:
            return encode(keys[0], variables, hparams, batch).mean

        seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
        return {**variables.state, "density": fit_mixture(examples(code), config.components, seed)}

    def before(variables: Variables) -> Variables:
        return Variables(variables.state["params"], variables.state["state"])

    def init(key: jax.Array, batch: Batch) -> Variables:
        return Variables({})

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        return begun.encode(key, before(variables), hparams, batch)

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        return begun.decode(before(variables), hparams, z, batch)

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        metrics = begun.objective(key, before(variables), hparams, batch, train=False).metrics
        z = encode(key, variables, hparams, batch).mean
        return Outcome({}, variables.state, {**metrics, "code_cross_entropy": -mixture(variables).log_prob(z)})

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        return decode(variables, hparams, mixture(variables).sample(key, (n,)), {})

    model = Model(init, objective, encode, decode, None, sample)
    density = Stage("density", model, fixed_algorithm(model), carry_over, fit_state, steps=0)
    return first._replace(stages=(autoencoder, density))


def mixture(variables: Variables) -> distributions.Mixture:
    """Return the density of codes, q(z), from the variables of the stage."""
    logits, means, scale_trils = (variables.state["density"][name] for name in ("logits", "means", "scale_trils"))
    return distributions.Mixture(logits, distributions.MultivariateNormal(means, scale_tril=scale_trils))
