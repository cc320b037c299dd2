"""Models trained on a bound of several importance weights of each example."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp

from vaex import bounds, estimators
from vaex.configuration import option, options
from vaex.core import Batch, DrawFigure, FigureKey, LogWeights, Metrics, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.data.transforms import binarize
from vaex.errors import UserError
from vaex.models import gaussian, latent, networks
from vaex.models.latent import Components
from vaex.plots.records import Curves

TINY: dict[str, Any] = {**networks.TINY, "num_samples": 2}
Estimator = Literal["reparameterized", "dreg", "stl"]
ESTIMATORS = {"reparameterized": "reparameterized", "dreg": "doubly_reparameterized", "stl": "sticking_the_landing"}
FIGURE_SAMPLES, SAMPLES_AT_ONCE = 512, 16  # samples per example in the figure, and how many of them fit into memory


class Bound(Protocol):
    """Returns a bound [b], in nats, from log weights [k, b]."""

    def __call__(self, hparams: PyTree, log_weights: jax.Array, /) -> jax.Array: ...


@options
class Config(gaussian.PosteriorConfig):
    """Options of a Gaussian VAE, the number of importance samples, and the estimator of the encoder's gradient."""

    num_samples: int = option(5, low=1, doc="Importance samples per example in training, k.")
    estimator: Estimator = option(
        "reparameterized",
        doc="Estimator of the encoder's gradient; dreg (doubly reparameterized) keeps its signal as k grows, stl (sticking "
        "the landing) has less variance but is biased for k > 1.",
    )


@options
class GroupedConfig(Config):
    """Options of models that average bounds over groups of samples."""

    num_samples: int = option(4, low=1, doc="Importance samples per example in each group, k.")
    num_groups: int = option(
        4, low=1, doc="Groups of samples whose bounds are averaged, m; the decoder sees m k samples per example."
    )


def build_components(config: Config, spec: Spec) -> Components:
    """Return the components of a Gaussian VAE.

    Raises: UserError for a likelihood that is no density of the data: it has no importance weights.
    """
    components = gaussian.build_components(config, spec)
    if not components.likelihood.density:
        raise UserError(
            f"--likelihood={config.likelihood}: {components.likelihood.title} has no importance weights; use "
            "--binarize=dynamic, or another likelihood such as continuous_bernoulli"
        )
    return components


def draw_log_weights(
    key: jax.Array,
    components: Components,
    params: PyTree,
    hparams: PyTree,
    batch: Batch,
    *,
    num_samples: int,
    estimator: Estimator,
    bound: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, Metrics]:
    """Draw log weights [k, b] through which ``bound`` has the gradient of ``estimator``, and return them with metrics.

    The ELBO and its terms are means over the same samples; they cost no second pass through the decoder.
    """
    posterior, prior = components.posterior(params, hparams, batch), components.prior(params, hparams)
    z = posterior.sample(key, (num_samples,))
    log_joint = latent.log_joint(components, params, hparams, batch)
    name: Any = ESTIMATORS[estimator]
    log_weights = estimators.path_log_weights(posterior, log_joint, z, estimator=name, bound=bound)
    kl = jnp.mean(posterior.log_prob(z) - prior.log_prob(z), axis=0)
    metrics = latent.metrics(components.likelihood, jnp.mean(log_weights, axis=0) + kl, kl)
    metrics["effective_sample_size"] = bounds.effective_sample_size(log_weights)
    return log_weights, jax.lax.stop_gradient(metrics)


def recipe(config: Config, spec: Spec, name: str, bound: Bound, *, num_samples: int | None = None) -> Recipe:
    """Return the recipe of a Gaussian VAE that is trained on one bound.

    Args:
      config: options of the model.
      spec: of the data.
      name: of the bound among the metrics.
      bound: what is maximised.
      num_samples: samples per example; by default ``config.num_samples``.
    """
    components, count = build_components(config, spec), num_samples or config.num_samples

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        bound_here = functools.partial(bound, hparams)
        log_weights, metrics = draw_log_weights(
            key,
            components,
            variables.params["vae"],
            hparams,
            batch,
            num_samples=count,
            estimator=config.estimator,
            bound=bound_here,
        )
        value = bound_here(log_weights)
        return Outcome({"vae": -jnp.mean(value)}, variables.state, {name: value, **metrics})

    model = latent.model(components, objective)
    return latent.single_stage(model, config, components.likelihood, figures(model.log_weights, spec))


def figures(
    log_weights: LogWeights | None, spec: Spec, more_bounds: Mapping[str, Bound] | None = None
) -> dict[str, DrawFigure]:
    """Return the figure of how bounds tighten with the number of samples, 1 to 512, on a few examples.

    Args:
      log_weights: of the model.
      spec: of the data; grey values are binarised where they are in training.
      more_bounds: name -> a bound to draw beside the importance bound.
    """
    assert log_weights is not None  # build_components refuses likelihoods without a density
    lines: dict[str, Bound] = {"importance bound": lambda hparams, w: bounds.importance_bound(w), **(more_bounds or {})}

    @jax.jit
    def curves(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> dict[str, jax.Array]:
        x = batch["x"]
        if spec.binarize == "dynamic":
            batch = {**batch, "x": binarize(key, x)}
        keys = jax.random.split(jax.random.fold_in(key, FigureKey.LATENTS), FIGURE_SAMPLES // SAMPLES_AT_ONCE)
        weights = jax.lax.map(lambda k: log_weights(k, variables, hparams, batch, SAMPLES_AT_ONCE), keys)
        sizes = [2**power for power in range(FIGURE_SAMPLES.bit_length())]
        groups = [jnp.swapaxes(weights.reshape(-1, size, len(x)), 0, 1) for size in sizes]
        return {name: jnp.stack([jnp.mean(bound(hparams, w)) for w in groups]) for name, bound in lines.items()}

    def draw(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Curves:
        powers = list(range(FIGURE_SAMPLES.bit_length()))
        title = f"Bounds on log p(x), mean of {len(batch['x'])} examples"
        values = curves(key, variables, hparams, batch)
        return Curves(powers, values, "log2 of the number of samples k (the ELBO at 0)", "nats per example", title)

    return {"bounds_by_samples": draw}
