r"""M1+M2: a classifier from few labels, over the codes of a VAE that is trained first, without labels.

Stage "model" (M1): a VAE of x with latents :math:`z_1`, trained on its ELBO. Stage "m2" (M2, with M1 fixed):
:math:`z_1\sim q(z_1|x)`, drawn afresh in every step, is modelled by :math:`p(y)\,p(z_2)\,p(z_1|y,z_2)` and classified by
:math:`q(y|z_1)`. Objective, in nats per example (see ``m2_vae``): :math:`-\mathcal L(z_1,y)` of labelled and
:math:`-\mathcal U(z_1)` of unlabelled examples, summed over all classes and weighted as they are in the data, plus
:math:`\alpha` times the mean of :math:`-\log q(y|z_1)` over labelled ones. Both together are a model of x, with the ELBO
:math:`\mathbb E_{q(z_1|x)}[\log p(x|z_1) + \mathcal U(z_1)] + \mathcal H(q(z_1|x))`. The code is :math:`z_2`, and :math:`z_1`
is set to its mean, so reconstructions show how much of an image class and style keep.

Source: Kingma et al. 2014, sections 2.1, 2.2 and 3; settings: section 4 and the authors' code.
Command: ``python experiments/run.py --model=semi_supervised_vae --labels=100``
Result: digits, 100 labels, test: the classifier is right for 93% of images, the generative classifier for 93%;
log-likelihood -90.4 (K = 100). MNIST with 100 labels, longer (benchmarks/RESULTS.md): 4.1% test error, with ``--alpha=10``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaex.configuration import hparam, hyperparameters, option, options
from vaex.core import Batch, Labels, Model, Objective, Outcome, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.distributions import Distribution
from vaex.models import conditions, gaussian, latent, networks
from vaex.models.labels import _labelled as labelled
from vaex.models.labels._labelled import LabelledComponents
from vaex.models.latent import Components
from vaex.models.networks import NetworkConfig
from vaex.schedules import Scalar
from vaex.training.step import masked_mean

__all__ = ["DEFAULTS", "TINY", "Config", "HParams", "build"]

DEFAULTS = {"m2_steps": 4000}
TINY: dict[str, Any] = networks.TINY | {"m2_latent_dim": 2, "m2_hidden": (16,)}


@options
class Config(NetworkConfig):
    """Options of M1, and of M2 over its codes."""

    m2_latent_dim: int = option(10, low=1, doc="Number of latent variables of M2.")
    m2_hidden: tuple[int, ...] = option(
        (256,), low=1, doc="Widths of the hidden layers of M2's networks, which are MLPs."
    )


@hyperparameters
class HParams(labelled.HParams):
    """Hyperparameters of M1 and M2."""

    m2_learning_rate: Scalar = hparam(0.001, low=0.0, doc="Step size of the optimizer in the second stage.")


def build(config: Config, spec: Spec) -> Recipe:
    """Return the recipe of M1, then M2 over its codes, for labelled data of this spec."""
    classes = conditions.require_labels(spec)
    posterior = gaussian.gaussian_posterior("diagonal", config.latent_dim)
    m1 = latent.build_components(config, spec, posterior, latent.standard_prior(config.latent_dim))
    m2_sizes: dict[str, Any] = {"network": "mlp", "hidden": config.m2_hidden, "latent_dim": config.m2_latent_dim}
    m2_config = dataclasses.replace(
        config, likelihood="gaussian", likelihood_scale="per_pixel", mean="free", **m2_sizes
    )
    codes = Spec("the codes of M1", (config.latent_dim,), "real", num_classes=classes)
    codes = codes._replace(num_training_examples=spec.num_training_examples, num_labelled=spec.num_labelled)
    second, labels = _m2(m1, labelled.build_components(m2_config, codes))

    stages = (
        latent.stage("model", latent.model(m1, _m1_objective(m1))._replace(compares_examples=True), config),
        latent.stage("m2", second, config, lambda finished: finished["model"].params),
    )
    return Recipe(stages, m1.likelihood.summary, labels=labels)


def _m1_objective(m1: Components) -> Objective:
    """Return the negative ELBO, averaged over a batch's unlabelled examples, or over all where every one is labelled.

    Batches may hold the few labelled images far more often than others (``--labelled_per_batch``). A VAE that saw them so often
    would memorise them, and encode them unlike other images.
    """
    mean_over_all = latent.negative_elbo(m1, lambda hparams, terms: terms.kl)

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        outcome = mean_over_all(key, variables, hparams, batch, train=train)
        unlabelled = batch.get("y", jnp.full(batch["x"].shape[0], -1)) < 0
        counted = jnp.where(jnp.any(unlabelled), unlabelled, True)
        negative_elbo = sum(outcome.metrics[name] for name in outcome.metrics if name != "elbo")
        loss = masked_mean(jnp.asarray(negative_elbo), counted)
        return outcome._replace(losses={"vae": loss})

    return objective


def _m2_objective(m1: Components, m2: LabelledComponents) -> Objective:
    """Return the loss of M2 on codes of M1, which are drawn afresh in every step; in evaluation with metrics of x."""

    def objective(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, *, train: bool) -> Outcome:
        codes = m1.posterior(variables.state["vae"], hparams, batch)
        z_key, m2_key = jax.random.split(key)
        z = codes.sample(z_key)
        terms = labelled.terms(m2_key, m2, variables.params["m2"], hparams, batch | {"x": z})
        if train:  # M1 is fixed: its decoder has no part in the gradient
            metrics = {"code_elbo": terms.log_px - terms.kl, "classification_loss": terms.classification_loss}
            metrics["training_accuracy"] = terms.accuracy
        else:
            log_px = m1.decode(variables.state["vae"], hparams, z, {}).log_prob(batch["x"])
            metrics = latent.metrics(m1.likelihood, log_px, terms.kl - terms.log_px - codes.entropy())
        return Outcome({"m2": terms.loss}, variables.state, metrics | {"label_entropy": terms.entropy})

    return objective


def _m2(m1: Components, m2: LabelledComponents) -> tuple[Model, Labels]:
    """Return M2 over the codes of M1, whose parameters are ``Variables.state["vae"]``, as a model of x."""
    classes = m2.conditional.classes

    def at_mean(variables: Variables, hparams: PyTree, batch: Batch) -> Batch:
        return batch | {"x": m1.posterior(variables.state["vae"], hparams, batch).mean}

    def init(key: jax.Array, batch: Batch) -> Variables:
        return Variables({"m2": m2.init(key, {"x": jnp.zeros((1, *m2.shape))})})

    def encode(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        params = variables.params["m2"]
        batch = labelled.with_label(m2, params, at_mean(variables, hparams, batch))
        return m2.conditional.posterior(params, hparams, batch)

    def decode(variables: Variables, hparams: PyTree, z: jax.Array, batch: Batch) -> Distribution:
        mean = m2.conditional.decode(variables.params["m2"], hparams, z, batch).mean
        return m1.decode(variables.state["vae"], hparams, mean, {})

    def classify(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Distribution:
        return m2.classify(variables.params["m2"], at_mean(variables, hparams, batch))

    def class_log_weights(
        key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, num_samples: int
    ) -> jax.Array:
        z_key, m2_key = jax.random.split(key)
        codes = m1.posterior(variables.state["vae"], hparams, batch)
        z, log_q = latent.sample_and_log_prob(z_key, codes, num_samples)  # [k, b, d], the same for every class
        log_px = m1.decode(variables.state["vae"], hparams, z, {}).log_prob(batch["x"])
        flat = {"x": z.reshape(-1, z.shape[-1])}
        of_codes = labelled.class_log_weights(m2_key, m2, variables.params["m2"], hparams, flat, 1)
        return (log_px - log_q)[..., None] + of_codes.reshape(*log_px.shape, classes)

    def sample(
        key: jax.Array, variables: Variables, hparams: PyTree, n: int, condition: ArrayLike | None = None
    ) -> Distribution:
        params, keys = variables.params["m2"], jax.random.split(key)
        z2 = m2.conditional.prior(params, hparams).sample(keys[0], (n,))
        batch = conditions.condition_batch(key, classes, n, condition)
        z1 = m2.conditional.decode(params, hparams, z2, batch).sample(keys[1])
        return m1.decode(variables.state["vae"], hparams, z1, {})

    log_weights = labelled.marginal(class_log_weights, classes) if m1.likelihood.density else None
    model = Model(init, _m2_objective(m1, m2), encode, decode, log_weights, sample, compares_examples=True)
    return model, Labels(classes, classify, class_log_weights)
