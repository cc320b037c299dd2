"""The shared builder of models that are trained by a bound over several importance weights of each example."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

from vaex import bounds, estimators
from vaex.configuration import option, options
from vaex.core import Batch, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.data.transforms import binarize
from vaex.errors import UserError
from vaex.models import gaussian, latent, networks
from vaex.models.latent import Components
from vaex.plots.records import Curves

TINY: dict[str, Any] = {**networks.TINY, "num_samples": 2}
ESTIMATORS = {"reparameterized": "reparameterized", "dreg": "doubly_reparameterized", "stl": "sticking_the_landing"}
DRAWN, DRAWN_AT_ONCE = 512, 16  # samples per example of the picture

Bound = Callable[[Any, jax.Array], jax.Array]  # hyperparameters and log weights [k, b] -> [b], nats


@options
class Config(gaussian.PosteriorConfig):
    """Options of ``importance``."""

    num_samples: int = option(5, low=1, doc="K, importance samples per example in training.")
    estimator: Literal["reparameterized", "dreg", "stl"] = option(
        "reparameterized",
        doc="Of the encoder's gradient; dreg (doubly reparameterized) keeps its signal as k grows, stl (sticking "
        "the landing) has less variance but is biased for k > 1.",
    )


@options
class GroupedConfig(Config):
    """Of bounds over groups of samples."""

    num_samples: int = option(4, low=1, doc="K, importance samples per example in each group.")
    num_groups: int = option(
        4, low=1, doc="M, groups of samples whose bounds are averaged; the decoder sees m k samples per example."
    )


def build_components(config: Config, spec: Spec) -> Components:
    """A Gaussian posterior, the standard normal prior, the networks and the likelihood of ``config``.

    Raises: UserError for a likelihood that is no density of the data, which has no importance weights.
    """
    it = gaussian.build_components(config, spec)
    if not it.likelihood.density:
        raise UserError(
            f"--likelihood={config.likelihood}: {it.likelihood.title} has no importance weights; use --binarize=dynamic, "
            "or another likelihood such as continuous_bernoulli"
        )
    return it


def weigh(
    it: Components,
    config: Config,
    key: jax.Array,
    params: PyTree,
    hparams: Any,
    batch: Batch,
    bound: Callable,
    samples: int,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Log weights [samples, b], through which the gradient of ``bound`` is the one that ``config`` names, and their metrics.

    The elbo and its terms are means over the same samples; they cost no other pass through the decoder.
    """
    posterior, prior = it.posterior(params, hparams, batch), it.prior(params, hparams)
    z = posterior.sample(key, (samples,))
    log_joint = latent.log_joint(it, params, hparams, batch)
    estimator: Any = ESTIMATORS[config.estimator]
    log_weights = estimators.path_log_weights(posterior, log_joint, z, estimator=estimator, bound=bound)
    kl = jnp.mean(posterior.log_prob(z) - prior.log_prob(z), axis=0)
    facts = latent.metrics(it.likelihood, jnp.mean(log_weights, axis=0) + kl, kl)
    facts["effective_sample_size"] = bounds.effective_sample_size(log_weights)
    return log_weights, jax.lax.stop_gradient(facts)


def recipe(config: Config, spec: Spec, name: str, bound: Bound, *, samples: int | None = None) -> Recipe:
    """The recipe of a model that is trained by one bound.

    Args:
      config: its ``num_samples`` are drawn, or ``samples`` where these are given.
      spec: of the data.
      name: of the bound among the metrics.
      bound: hyperparameters and log weights [samples, b] -> [b], nats.
      samples: per example.
    """
    it, count = build_components(config, spec), samples or config.num_samples

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        mine = functools.partial(bound, hparams)
        log_weights, facts = weigh(it, config, key, variables.params["vae"], hparams, batch, mine, count)
        value = mine(log_weights)
        return Outcome({"vae": -jnp.mean(value)}, variables.state, {name: value, **facts})

    model = latent.model(it, objective)
    return latent.single_stage(model, config, it.likelihood, figures(model.log_weights, spec))


def figures(
    log_weights: Callable[..., jax.Array] | None, spec: Spec, lines: Mapping[str, Bound] | None = None
) -> dict[str, Callable[..., Curves]]:
    """The picture of how bounds tighten with the number of samples, 1 to 512, on the examples that are shown.

    Args:
      log_weights: as ``Model.log_weights``.
      spec: of the data; grey values are binarised where training does so.
      lines: name -> another bound than the importance bound to be drawn beside it.
    """
    assert log_weights is not None  # parts has seen to it
    drawn = {"importance bound": lambda hparams, w: bounds.importance_bound(w), **(lines or {})}

    @jax.jit
    def curves(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> dict[str, jax.Array]:
        x = batch["x"]
        if spec.binarize == "dynamic":
            batch = {**batch, "x": binarize(key, x)}
        keys = jax.random.split(jax.random.fold_in(key, 1), DRAWN // DRAWN_AT_ONCE)
        weights = jax.lax.map(lambda one: log_weights(one, variables, hparams, batch, DRAWN_AT_ONCE), keys)
        sizes = [2**power for power in range(DRAWN.bit_length())]
        groups = [jnp.swapaxes(weights.reshape(-1, size, len(x)), 0, 1) for size in sizes]
        return {n: jnp.stack([jnp.mean(one(hparams, w)) for w in groups]) for n, one in drawn.items()}

    def figure(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Curves:
        found = curves(key, variables, hparams, batch)
        powers = list(range(DRAWN.bit_length()))
        title = f"Bounds on log p(x), mean of {len(batch['x'])} examples"
        return Curves(powers, found, "log2 of the number of samples k (the elbo at 0)", "nats per example", title)

    return {"bounds_by_samples": figure}
