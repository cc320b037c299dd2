"""Latent variable models composed of a posterior, a prior, a likelihood, and an objective over them.

A variant replaces one of these: another ``Posterior`` or ``Prior``, another penalty (``negative_elbo``), or an objective of its
own over ``Components``. The functions that all variants share, ``encode``, ``log_weights`` and ``sample``, are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike

from vaex import bounds, divergences
from vaex.configuration import hparam, hyperparameters
from vaex.core import (
    Batch,
    CarryOver,
    DrawFigure,
    InitKey,
    Labels,
    Latents,
    Metrics,
    Model,
    Objective,
    Outcome,
    PyTree,
    Recipe,
    Stage,
    StepKey,
    Variables,
)
from vaex.data.conditions import Condition
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.conditions import condition_batch
from vaex.models.networks import NetworkConfig, Networks, networks
from vaex.models.posteriors import InitParams, ModelView
from vaex.models.posteriors import Posterior as Posterior
from vaex.models.posteriors import Prior as Prior
from vaex.models.posteriors import standard_prior as standard_prior
from vaex.ops.threefry import fold_in
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams
from vaex.training.optimizers import HasOptimizer
from vaex.training.step import ParameterGroup, gradient_algorithm


@hyperparameters
class HParams(TrainingHParams):
    """Hyperparameters of every model with a likelihood: those of training, and a standard deviation."""

    sigma: Scalar = hparam(
        1.0,
        low=1e-06,
        doc="Standard deviation (scale) of the likelihood where likelihood_scale is fixed; of standardised "
        "columns, in their standard deviations.",
    )


# --- components ---------------------------------------------------------------------------------------------------


class InferLatents(Protocol):
    """Returns q(z|x), a Distribution of batch shape [b]; labels, where the model reads them, are in ``batch["y"]``."""

    def __call__(self, params: PyTree, hparams: PyTree, batch: Batch, /) -> Any: ...  # each model knows its family


class PriorOfLatents(Protocol):
    """Returns p(z), a Distribution of batch shape []."""

    def __call__(self, params: PyTree, hparams: PyTree, /) -> Any: ...


class DecodeLatents(Protocol):
    """Returns p(x|z) for z [..., b, d]; labels, where the model reads them, are in ``batch["y"]``."""

    def __call__(self, params: PyTree, hparams: PyTree, z: jax.Array, batch: Batch, /) -> Distribution: ...


class Components(NamedTuple):
    """Posterior, prior and decoder of a model as pure functions of one tree of parameters.

    Attributes:
      init: the parameters.
      posterior: q(z|x).
      prior: p(z).
      decode: p(x|z).
      likelihood: the family of p(x|z).
      classes: number of classes of the labels that posterior and decoder read; 0 where they read none.
      conditions: what they read in place of labels; () where they read none.
      density: whether posterior and prior have one; the model has log weights where the likelihood has one, too.
    """

    init: InitParams
    posterior: InferLatents
    prior: PriorOfLatents
    decode: DecodeLatents
    likelihood: likelihoods.Likelihood
    classes: int = 0
    density: bool = True
    conditions: tuple[Condition, ...] = ()


class Terms(NamedTuple):
    """Terms of the ELBO of a batch, from which penalties are computed.

    Attributes:
      log_px: log p(x|z) [b], nats, averaged over samples.
      compute_kl: what ``kl`` returns.
      posterior: q(z|x), a Distribution.
      z: posterior samples [k, b, d].
      prior: p(z), a Distribution.
      key: for the penalty's own draws.
      x: model inputs [b, *shape].
      likelihood: p(x|z) at z, a Distribution of batch shape [b] for one sample, [k, b] for several.
      decode: z [..., b, d] -> p(x|z).
      params: of the components.
    """

    log_px: jax.Array
    compute_kl: Callable[[], jax.Array]
    posterior: Any
    z: jax.Array
    prior: Any
    key: jax.Array
    x: jax.Array
    likelihood: Any
    decode: Callable[[jax.Array], Any]
    params: PyTree

    @property
    def kl(self) -> jax.Array:
        """Return the KL divergence of posterior and prior [b], nats; where one has no density it is computed only here.

        Raises: TypeError where it is not known.
        """
        return self.compute_kl()


class Penalty(Protocol):
    """Returns what a loss adds to -log p(x|z), [b] or [], nats; or that and metrics, each [b] or []."""

    def __call__(self, hparams: PyTree, terms: Terms, /) -> jax.Array | tuple[jax.Array, Metrics]: ...


def build_components(
    config: NetworkConfig, spec: Spec, posterior: Posterior, prior: Prior, reads: Labels | None = None
) -> Components:
    """Join a posterior and a prior with the networks and the likelihood of ``config``, which read labels where ``reads`` says so.

    Raises: UserError where the network or the likelihood does not fit the data.
    """
    likelihood = likelihoods.build(
        config.likelihood, spec, scale=config.likelihood_scale, mean=config.mean, totals=True
    )
    width = 0 if reads is None else reads.conditions or reads.classes
    net: Networks = networks(config, spec, posterior.features, likelihood, width)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        beside_networks = {
            "posterior": posterior.init(jax.random.fold_in(key, InitKey.POSTERIOR)),
            "prior": prior.init(jax.random.fold_in(key, InitKey.PRIOR), batch),
        }
        return net.init(key, batch) | {name: p for name, p in beside_networks.items() if jax.tree.leaves(p)}

    def posterior_at(params: PyTree, hparams: PyTree, x: jax.Array, label: jax.Array | None = None) -> Distribution:
        return posterior.distribution(params.get("posterior", ()), hparams, net.encode(params, x, label))

    def infer(params: PyTree, hparams: PyTree, batch: Batch) -> Distribution:
        start = posterior_at(params, hparams, batch["x"], batch.get("y"))
        if posterior.refine is None:
            return start
        decoder = {name: values for name, values in params.items() if name in ("decoder", "likelihood")}
        given = Partial(decode_given, decoder, hparams, batch)
        encoder = Partial(posterior_at, params, hparams)
        view = ModelView(batch, prior_of_latents(params, hparams), given, encoder)
        return posterior.refine(params.get("posterior", ()), hparams, start, view)

    def prior_of_latents(params: PyTree, hparams: PyTree) -> Distribution:
        return prior.distribution(params.get("prior", ()), hparams, lambda x: posterior_at(params, hparams, x))

    def decode(params: PyTree, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        return net.decode(params, hparams.sigma, z, batch.get("y"), batch.get("x"))

    def decode_given(params: PyTree, hparams: PyTree, batch: Batch, z: jax.Array) -> Distribution:
        return decode(params, hparams, z, batch)

    classes, conditions = (reads.classes, spec.conditions if reads.conditions else ()) if reads else (0, ())
    density = posterior.density and prior.density
    return Components(init, infer, prior_of_latents, decode, likelihood, classes, density, conditions)


# --- objectives ---------------------------------------------------------------------------------------------------


def sample_and_log_prob(key: jax.Array, q: Distribution, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """Draw z [k, b, d] from q and return it with log q(z) [k, b], in one pass where the distribution offers that."""
    if hasattr(q, "sample_and_log_prob"):
        return q.sample_and_log_prob(key, (num_samples,))  # pyright: ignore[reportAttributeAccessIssue]
    z = q.sample(key, (num_samples,))
    return z, q.log_prob(z)


def log_joint(
    components: Components, params: PyTree, hparams: PyTree, batch: Batch
) -> Callable[[jax.Array], jax.Array]:
    """Return the function from z [k, b, d] to log p(x, z) [k, b] that ``vaex.estimators`` take."""
    prior = components.prior(params, hparams)
    return lambda z: components.decode(params, hparams, z, batch).log_prob(batch["x"]) + prior.log_prob(z)


def draw_terms(
    key: jax.Array,
    components: Components,
    params: PyTree,
    hparams: PyTree,
    batch: Batch,
    *,
    num_samples: int = 1,
    closed_form: bool = True,
) -> Terms:
    """Draw posterior samples and compute the terms of the ELBO at them; ``negative_elbo`` describes the last two arguments."""
    posterior, prior = components.posterior(params, hparams, batch), components.prior(params, hparams)
    if closed_form or not components.density:
        z = posterior.sample(key, (num_samples,))
        kl = divergences.kl(posterior, prior) if components.density else None
    else:
        z, log_q = sample_and_log_prob(key, posterior, num_samples)
        kl = jnp.mean(log_q - prior.log_prob(z), axis=0)

    def compute_kl() -> jax.Array:
        return divergences.kl(posterior, prior) if kl is None else kl

    def decode(z: jax.Array) -> Distribution:
        return components.decode(params, hparams, z, batch)

    if num_samples == 1:  # XLA's CPU compiler cannot divide a leading axis of one over cores
        px = decode(z[0])
        log_px = px.log_prob(batch["x"])
    else:
        px = decode(z)
        log_px = jnp.mean(px.log_prob(batch["x"]), axis=0)
    penalty_key = fold_in(key, StepKey.PENALTY)
    return Terms(log_px, compute_kl, posterior, z, prior, penalty_key, batch["x"], px, decode, params)


def metrics(likelihood: likelihoods.Likelihood, log_px: jax.Array, kl: jax.Array | None) -> Metrics:
    """Name the ELBO and its terms, [b] each, nats; of a likelihood that is no density, the cross-entropy.

    ``kl`` is None where posterior or prior has no density: there is no ELBO.
    """
    reconstruction = {"reconstruction" if likelihood.density else "cross_entropy": -log_px}
    if kl is None:
        return reconstruction
    return ({"elbo": bounds.elbo(log_px, kl)} if likelihood.density else {}) | reconstruction | {"kl": kl}


def _params_of_vae(variables: Variables) -> PyTree:
    return variables.params["vae"]


def negative_elbo(
    components: Components,
    penalty: Penalty,
    *,
    num_samples: int = 1,
    closed_form: bool = True,
    params_of: Callable[[Variables], PyTree] = _params_of_vae,
) -> Objective:
    """Return the objective ``mean(-log p(x|z) + penalty)``; ``terms.kl`` is the penalty of a plain VAE.

    A penalty that does not read it takes posteriors and priors without a density too.

    Args:
      components: of the model; its parameters are the group "vae".
      penalty: added to the loss of each example.
      num_samples: posterior samples per example.
      closed_form: whether the KL is computed in closed form, or from the samples that are decoded.
      params_of: as of ``model``.
    """

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        params = params_of(variables)
        terms = draw_terms(key, components, params, hparams, batch, num_samples=num_samples, closed_form=closed_form)
        penalised = penalty(hparams, terms)
        added, diagnostics = penalised if isinstance(penalised, tuple) else (penalised, {})
        loss = jnp.mean(-terms.log_px + added)
        elbo_terms = metrics(components.likelihood, terms.log_px, terms.kl if components.density else None)
        return Outcome({"vae": loss}, variables.state, elbo_terms | diagnostics)

    return objective


# --- models and recipes -------------------------------------------------------------------------------------------


def model(
    components: Components, objective: Objective, *, params_of: Callable[[Variables], PyTree] = _params_of_vae
) -> Model:
    """Return the model of these components that is trained by ``objective``.

    Args:
      components: of the model.
      objective: evaluates the losses.
      params_of: variables -> the tree that the components take; by default the group "vae". A model of several groups also
        replaces ``Model.init``.
    """

    def init(key: jax.Array, batch: Batch) -> Variables:
        return Variables({"vae": components.init(key, batch)})

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        return components.posterior(params_of(variables), hparams, batch)

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        return components.decode(params_of(variables), hparams, z, batch)

    def log_weights(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int) -> jax.Array:
        z, log_q = sample_and_log_prob(key, encode(key, variables, hparams, batch), num_samples)
        log_px = decode(variables, hparams, z, batch).log_prob(batch["x"])
        return log_px + components.prior(params_of(variables), hparams).log_prob(z) - log_q

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        z = components.prior(params_of(variables), hparams).sample(key, (n,))
        given = condition_batch(key, components.classes, n, condition, components.conditions)
        return decode(variables, hparams, z, given)

    density = components.density and components.likelihood.density
    return Model(init, objective, encode, decode, log_weights if density else None, sample)


def refuse_single_examples(model: Model) -> Model:
    """Return ``model`` with an ``init`` that refuses batches of one, for objectives that compare examples of a batch."""

    def init(key: jax.Array, batch: Batch) -> Variables:
        if len(batch["x"]) < 2:
            raise UserError("--batch_size=1: this objective compares the examples of a batch; give at least 2")
        return model.init(key, batch)

    return model._replace(init=init, compares_examples=True)


def stage(
    name: str,
    model: Model,
    config: HasOptimizer,
    carry_over: CarryOver | None = None,
    groups: Mapping[str, ParameterGroup] | None = None,
) -> Stage:
    """Return a stage in which ``model`` is trained by gradients.

    ``config`` gives the optimizer, ``carry_over`` the state that the stage takes from those before it, ``groups`` the optimizer,
    learning rate and update period of single parameter groups, where they differ.
    """
    return Stage(name, model, gradient_algorithm(model, optimizer=config.optimizer, groups=groups), carry_over)


def single_stage(
    model: Model,
    config: HasOptimizer,
    likelihood: likelihoods.Likelihood,
    figures: Mapping[str, DrawFigure] | None = None,
    latents: tuple[Latents, ...] = (),
    groups: Mapping[str, ParameterGroup] | None = None,
) -> Recipe:
    """Return the recipe of a model that is trained in one stage, by gradients.

    Args:
      model: what is trained.
      config: gives ``optimizer``.
      likelihood: family of p(x|z), for reports.
      figures: name -> a figure of the model's own.
      latents: kinds of the entries of a code; () where all have a standard normal prior.
      groups: as of ``stage``.
    """
    return Recipe((stage("model", model, config, groups=groups),), likelihood.summary, dict(figures or {}), latents)
