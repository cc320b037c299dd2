"""Models with latent variables put together from parts: a posterior, a prior, a likelihood, and an objective over them.

A variant replaces one part: another ``Prior`` or ``Posterior`` record, another penalty (``negative_elbo``), or a whole
objective of its own over ``Components``. What all of them share, ``encode``, ``log_weights`` and ``sample``, is made here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex import bounds, distributions, divergences
from vaex.configuration import hparam, hyperparameters
from vaex.core import (
    Batch,
    CarryOver,
    DrawFigure,
    InitKey,
    Latents,
    Model,
    Outcome,
    PyTree,
    Recipe,
    SampleKey,
    Stage,
    StepKey,
    Variables,
)
from vaex.data.spec import Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.networks import NetworkConfig, Networks, networks
from vaex.ops.threefry import fold_in
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams
from vaex.training.optimizers import Optimizer
from vaex.training.step import ParameterGroup, gradient_algorithm


@hyperparameters
class HParams(TrainingHParams):
    """Hyperparameters of ``latent``."""

    sigma: Scalar = hparam(
        1.0, low=1e-06, doc="Standard deviation (scale) of the likelihood where likelihood_scale is fixed."
    )


class Posterior(NamedTuple):
    """q(z|x): ``distribution(params, hparams, raw)`` of what the encoder gives, raw [b, ``features``].

    ``init(key) -> params``: parameters of its own beside the encoder's, ``()`` for none.
    """

    features: int
    distribution: Callable[[PyTree, Any, jax.Array], Any]
    init: Callable[[jax.Array], PyTree] = lambda key: ()


class Prior(NamedTuple):
    """p(z): ``distribution(params, hparams, posterior)``, of batch shape [].

    ``posterior(x [m, *shape]) -> q(z|x)`` is there for priors that are made of posteriors. ``init(key, batch) -> params``.
    """

    distribution: Callable[[PyTree, Any, Callable[[jax.Array], Any]], Any]
    init: Callable[[jax.Array, Batch], PyTree] = lambda key, batch: ()


class Components(NamedTuple):
    """A model's parts as pure functions of one tree of parameters.

    ``init(key, batch) -> params``; ``posterior(params, hparams, batch) -> q(z|x)``, batch shape [b];
    ``prior(params, hparams) -> p(z)``, batch shape []; ``decode(params, hparams, z, batch) -> p(x|z)``, z [..., b, d].
    With ``classes``, posterior and decode also read the labels ``batch["y"]``, as ``networks`` says.
    """

    init: Callable[[jax.Array, Batch], PyTree]
    posterior: Callable[[PyTree, Any, Batch], Any]
    prior: Callable[[PyTree, Any], Any]
    decode: Callable[[PyTree, Any, jax.Array, Batch], Any]
    likelihood: likelihoods.Likelihood
    classes: int = 0


class Terms(NamedTuple):
    """What a penalty may look at.

    ``log_px`` [b] and ``kl`` [b] in nats, the posterior, the samples ``z`` [k, b, d], the prior, and a ``key`` of its own.
    """

    log_px: jax.Array
    kl: jax.Array
    posterior: Any
    z: jax.Array
    prior: Any
    key: jax.Array


# hyperparameters and terms -> [b] or [], nats; with metrics of its own beside it, where it has some
Penalty = Callable[[Any, Terms], jax.Array | tuple[jax.Array, dict[str, jax.Array]]]
Objective = Callable[..., Outcome]


def standard_prior(latent_dim: int) -> Prior:
    """N(0, I) over ``latent_dim`` latents."""
    normal = distributions.Normal(jnp.zeros(latent_dim), 1.0)
    return Prior(lambda params, hparams, posterior: normal)


def build_components(
    config: NetworkConfig, spec: Spec, posterior: Posterior, prior: Prior, classes: int = 0
) -> Components:
    """The parts of a model with this posterior and prior, and the networks and the likelihood of ``config``.

    With ``classes``, the networks also read labels.

    Raises: UserError where the network or the likelihood does not fit the data.
    """
    likelihood = likelihoods.build(config.likelihood, spec, scale=config.likelihood_scale)
    net: Networks = networks(config, spec, posterior.features, likelihood, classes)

    def init(key: jax.Array, batch: Batch) -> PyTree:
        own = {
            "posterior": posterior.init(jax.random.fold_in(key, InitKey.POSTERIOR)),
            "prior": prior.init(jax.random.fold_in(key, InitKey.PRIOR), batch),
        }
        return net.init(key, batch) | {name: params for name, params in own.items() if jax.tree.leaves(params)}

    def posterior_at(params: PyTree, hparams: Any, x: jax.Array, label: jax.Array | None = None) -> Any:
        return posterior.distribution(params.get("posterior", ()), hparams, net.encode(params, x, label))

    def posterior_of(params: PyTree, hparams: Any, batch: Batch) -> Any:
        return posterior_at(params, hparams, batch["x"], batch.get("y"))

    def prior_of(params: PyTree, hparams: Any) -> Any:
        return prior.distribution(params.get("prior", ()), hparams, lambda x: posterior_at(params, hparams, x))

    def decode(params: PyTree, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        return net.decode(params, hparams.sigma, z, batch.get("y"))

    return Components(init, posterior_of, prior_of, decode, likelihood, classes)


def sample_and_log_prob(key: jax.Array, q: Any, num_samples: int) -> tuple[jax.Array, jax.Array]:
    """``num_samples`` of z [k, b, d] and log q(z) [k, b], by the distribution's cheaper way where it has one."""
    if hasattr(q, "sample_and_log_prob"):
        return q.sample_and_log_prob(key, (num_samples,))
    z = q.sample(key, (num_samples,))
    return z, q.log_prob(z)


def log_joint(it: Components, params: PyTree, hparams: Any, batch: Batch) -> Callable[[jax.Array], jax.Array]:
    """z [k, b, d] -> log p(x, z) [k, b], for ``vaex.estimators``."""
    prior = it.prior(params, hparams)
    return lambda z: it.decode(params, hparams, z, batch).log_prob(batch["x"]) + prior.log_prob(z)


def _only_player(variables: Variables) -> PyTree:
    return variables.params["vae"]


def negative_elbo(it: Components, penalty: Penalty, *, num_samples: int = 1, closed_form: bool = True) -> Objective:
    """The objective ``mean(-log p(x|z) + penalty(hparams, terms))``; the penalty of a plain VAE is ``terms.kl``.

    Args:
      it: the model's parts; its parameters are those of the player "vae".
      penalty: hyperparameters and ``Terms`` -> [b] or [], nats; or that and metrics of its own.
      num_samples: posterior samples per example.
      closed_form: whether the KL is computed in closed form, or from the samples that the decoder sees.
    """

    def objective(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, *, train: bool) -> Outcome:
        params = _only_player(variables)
        terms = draw_terms(key, it, params, hparams, batch, num_samples=num_samples, closed_form=closed_form)
        found = penalty(hparams, terms)
        added, own = found if isinstance(found, tuple) else (found, {})
        loss = jnp.mean(-terms.log_px + added)
        return Outcome({"vae": loss}, variables.state, metrics(it.likelihood, terms.log_px, terms.kl) | own)

    return objective


def draw_terms(
    key: jax.Array, it: Components, params: PyTree, hparams: Any, batch: Batch, *, num_samples: int, closed_form: bool
) -> Terms:
    """What an objective over ``it`` is made of; see ``negative_elbo`` for the arguments."""
    posterior, prior = it.posterior(params, hparams, batch), it.prior(params, hparams)
    if closed_form:
        z = posterior.sample(key, (num_samples,))
        kl = divergences.kl(posterior, prior)
    else:
        z, log_q = sample_and_log_prob(key, posterior, num_samples)
        kl = jnp.mean(log_q - prior.log_prob(z), axis=0)
    if num_samples == 1:  # without a leading axis of one, which XLA's CPU compiler can't divide over cores
        log_px = it.decode(params, hparams, z[0], batch).log_prob(batch["x"])
    else:
        log_px = jnp.mean(it.decode(params, hparams, z, batch).log_prob(batch["x"]), axis=0)
    return Terms(log_px, kl, posterior, z, prior, fold_in(key, StepKey.PENALTY))


def metrics(likelihood: likelihoods.Likelihood, log_px: jax.Array, kl: jax.Array) -> dict[str, jax.Array]:
    """The terms of the elbo by name, [b] each in nats; of a likelihood that is no density, its cross entropy."""
    if not likelihood.density:
        return {"cross_entropy": -log_px, "kl": kl}
    return {"elbo": bounds.elbo(log_px, kl), "reconstruction": -log_px, "kl": kl}


def model(it: Components, objective: Objective, *, params: Callable[[Variables], PyTree] = _only_player) -> Model:
    """The model of these parts that is trained by ``objective``.

    Args:
      it: the parts.
      objective: as ``Model.objective``.
      params: variables -> the tree that the parts take; that of the player "vae", unless the parts have several players
        (``Model._replace(init=...)`` then makes these).
    """

    def init(key: jax.Array, batch: Batch) -> Variables:
        return Variables({"vae": it.init(key, batch)})

    def encode(key: jax.Array, variables: Variables, hparams: Any, batch: Batch) -> Any:
        return it.posterior(params(variables), hparams, batch)

    def decode(variables: Variables, hparams: Any, z: jax.Array, batch: Batch) -> Any:
        return it.decode(params(variables), hparams, z, batch)

    def log_weights(key: jax.Array, variables: Variables, hparams: Any, batch: Batch, num_samples: int) -> jax.Array:
        z, log_q = sample_and_log_prob(key, encode(key, variables, hparams, batch), num_samples)
        log_px = decode(variables, hparams, z, batch).log_prob(batch["x"])
        return log_px + it.prior(params(variables), hparams).log_prob(z) - log_q

    def sample(key: jax.Array, variables: Variables, hparams: Any, n: int, condition: Any = None) -> Any:
        z = it.prior(params(variables), hparams).sample(key, (n,))
        return decode(variables, hparams, z, condition_batch(it.classes, key, n, condition))

    return Model(init, objective, encode, decode, log_weights if it.likelihood.density else None, sample)


def condition_batch(classes: int, key: jax.Array, n: int, condition: ArrayLike | None) -> Batch:
    """The labels ``condition`` of n samples, or labels drawn uniformly, as a batch for ``decode``; {} for models without."""
    if not classes:
        return {}
    drawn = (
        jax.random.randint(jax.random.fold_in(key, SampleKey.LABELS), (n,), 0, classes)
        if condition is None
        else condition
    )
    return {"y": jnp.asarray(drawn)}


def require_labels(spec: Spec) -> int:
    """Return the number of classes of labelled data.

    Raises: UserError for data without labels.
    """
    if not spec.num_classes:
        raise UserError(
            f"{spec.name} has no labels, and this model reads them; choose a labelled --dataset, or a model without labels"
        )
    return spec.num_classes


def refuse_single_examples(model: Model) -> Model:
    """``model``, whose objective compares the examples of a batch: initialising it from a batch of one is refused."""

    def init(key: jax.Array, batch: Batch) -> Variables:
        if len(batch["x"]) < 2:
            raise UserError("--batch_size=1: this objective compares the examples of a batch; give at least 2")
        return model.init(key, batch)

    return model._replace(init=init)


class HasOptimizer(Protocol):
    """Options with an optimizer."""

    @property
    def optimizer(self) -> Optimizer: ...


def stage(
    name: str,
    model: Model,
    config: HasOptimizer,
    carry_over: CarryOver | None = None,
    groups: Mapping[str, ParameterGroup] | None = None,
) -> Stage:
    """A stage in which ``model`` is trained by gradients.

    Args:
      name: of the stage.
      model: what is trained.
      config: gives ``optimizer``.
      carry_over: what the stage takes from those before it.
      groups: optimizer, learning rate and update period of single parameter groups, where they differ.
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
    """The recipe of a model that is trained in one run by gradients.

    Args:
      model: what is trained.
      config: gives ``optimizer``.
      likelihood: for reports.
      figures: the model's own figures.
      latents: what a code is made of, where that is not latents with a standard normal prior.
      groups: optimizer, learning rate and update period of single parameter groups, where they differ.
    """
    return Recipe((stage("model", model, config, groups=groups),), likelihood.summary, dict(figures or {}), latents)
