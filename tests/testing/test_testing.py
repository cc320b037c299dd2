"""The laws can fail: a small sound model keeps all of them, and each breakage makes its law raise."""

import dataclasses
import itertools
import math
import types
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec

from vaex import distributions, divergences, testing
from vaex.configuration import hyperparameters, options, with_default
from vaex.core import Algorithm, Latents, Model, Outcome, Recipe, Stage, Variables
from vaex.errors import UserError
from vaex.plots.records import Bars
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams
from vaex.training.step import gradient_algorithm

pytestmark = pytest.mark.optimised


@options
class Config:
    """The smallest model has no options."""


@hyperparameters
class ClippedHParams(TrainingHParams):
    """Gradients are clipped, by a norm that none has."""

    clip_norm: Scalar | None = with_default(TrainingHParams, "clip_norm", math.inf)


def linear(spec, groups):
    """A linear Gaussian VAE with one latent variable; with a second parameter group, a critic that judges its codes."""
    pixels = int(np.prod(spec.shape))
    prior = distributions.Normal(jnp.zeros(1), 1.0, event_ndims=1)

    def init(key, batch):
        encoder_key, decoder_key = jax.random.split(key)
        vae = {
            "encoder": 0.1 * jax.random.normal(encoder_key, (pixels, 1)),
            "log_scale": jnp.full(1, -1.0),
            "decoder": 0.3 * jax.random.normal(decoder_key, (1, pixels)),
        }
        params = {"vae": vae, "critic": {"slope": jnp.full(1, 0.5)}}
        return Variables({group: params[group] for group in groups}, {"seen": jnp.zeros(())})

    def encode(key, variables, hparams, batch):
        vae = variables.params["vae"]
        mean = batch["x"].reshape(len(batch["x"]), pixels) @ vae["encoder"]
        return distributions.Normal(mean, log_scale=jnp.broadcast_to(vae["log_scale"], mean.shape), event_ndims=1)

    def decode(variables, hparams, z, batch):
        mean = (z @ variables.params["vae"]["decoder"]).reshape(*z.shape[:-1], *spec.shape)
        return distributions.Normal(mean, log_scale=jnp.zeros_like(mean), event_ndims=len(spec.shape))

    def objective(key, variables, hparams, batch, *, train):
        posterior = encode(key, variables, hparams, batch)
        z = posterior.sample(key)
        elbo = decode(variables, hparams, z, batch).log_prob(batch["x"]) - divergences.kl(posterior, prior)
        losses = {"vae": -jnp.mean(elbo)}
        if "critic" in groups:
            judged = z[:, 0] * variables.params["critic"]["slope"]
            losses = {"vae": losses["vae"] + jnp.mean(judged), "critic": jnp.mean(jax.nn.softplus(judged))}
        return Outcome(losses, {"seen": variables.state["seen"] + 1.0}, {"elbo": elbo})

    def log_weights(key, variables, hparams, batch, num_samples):
        posterior = encode(key, variables, hparams, batch)
        z = posterior.sample(key, (num_samples,))
        return decode(variables, hparams, z, batch).log_prob(batch["x"]) + prior.log_prob(z) - posterior.log_prob(z)

    def sample(key, variables, hparams, n, condition=None):
        return decode(variables, hparams, prior.sample(key, (n,)), {})

    return Model(init, objective, encode, decode, log_weights, sample)


def module(
    change_model=lambda model: model,
    change_algorithm=lambda stepper: stepper,
    groups=("vae",),
    change_recipe=lambda recipe: recipe,
    hparams=TrainingHParams,
):
    """A model file, with its model, its algorithm or its recipe changed."""

    def build(config, spec):
        model = change_model(linear(spec, groups))
        stepper = change_algorithm(gradient_algorithm(model, optimizer="sgd"))
        return change_recipe(Recipe((Stage("model", model, stepper),)))

    model_file = types.ModuleType("linear_model")
    model_file.Config, model_file.HParams, model_file.build = Config, hparams, build  # pyright: ignore
    return model_file


def with_inputs(change):
    """The model whose objective sees ``change(key, x)`` instead of x."""

    def changed(model):
        def objective(key, variables, hparams, batch, *, train):
            batch = batch | {"x": change(key, batch["x"])}
            return model.objective(key, variables, hparams, batch, train=train)

        return model._replace(objective=objective)

    return changed


def reads_a_hyperparameter_as_a_number(stepper):
    def step(state, batch):
        return stepper.step(state._replace(step=state.step + int(state.hparams.learning_rate.begin)), batch)

    return Algorithm(stepper.init, step)


def draws_when_traced(key, x):
    return x + np.random.default_rng().normal()


@jax.custom_batching.custom_vmap
def sensitive(x):
    return x


@sensitive.def_vmap
def _(axis_size, in_batched, x):
    return 1.01 * x, in_batched[0]


def sensitive_to_vmap(key, x):
    return x + sensitive(jax.random.normal(key))


COUNTER = itertools.count()


def counts_outside_the_state(key, x):
    count = jax.experimental.io_callback(lambda: np.float32(next(COUNTER)), jax.ShapeDtypeStruct((), np.float32))
    return x + 0.01 * count


@custom_partitioning
def mean_of_a_batch(x):
    return jnp.mean(x)


def _on_each_device(mesh, arguments, result):
    """The mean of its own rows, without the others'."""
    return mesh, jnp.mean, NamedSharding(mesh, PartitionSpec()), (arguments[0].sharding,)


mean_of_a_batch.def_partition(
    partition=_on_each_device,
    infer_sharding_from_operands=lambda mesh, arguments, result: NamedSharding(mesh, PartitionSpec()),
    sharding_rule="b h w c -> ",
)


def sees_its_devices_rows(key, x):
    return x + mean_of_a_batch(x)


def standardised(key, x):
    return (x - jnp.mean(x)) / jnp.std(x)


def cusp_at_black(model):
    """At black images the loss is finite and its gradient is not."""

    def objective(key, variables, hparams, batch, *, train):
        outcome = model.objective(key, variables, hparams, batch, train=train)
        code = jnp.sum(batch["x"] @ variables.params["vae"]["decoder"][:, :1])
        return outcome._replace(losses={"vae": outcome.losses["vae"] + jnp.sqrt(code**2)})

    return model._replace(objective=objective)


def leaky(model):
    """Each group's loss in the other's: what a trainer that sums the losses does."""

    def objective(key, variables, hparams, batch, *, train):
        outcome = model.objective(key, variables, hparams, batch, train=train)
        total = sum(outcome.losses.values())
        return outcome._replace(losses=dict.fromkeys(outcome.losses, total))

    return objective


def penalises_the_mean_bound(model):
    def objective(key, variables, hparams, batch, *, train):
        outcome = model.objective(key, variables, hparams, batch, train=train)
        penalty = jnp.square(jnp.mean(batch["x"]) - jnp.mean(variables.params["vae"]["decoder"]))
        return outcome._replace(losses={"vae": outcome.losses["vae"] + 100.0 * penalty})

    return model._replace(objective=objective)


def leaks(stepper):
    """A step of our own that closes over the objective."""

    def step(state, batch):
        model = linear(types.SimpleNamespace(shape=batch["x"].shape[1:]), ("vae", "critic"))
        return gradient_algorithm(model._replace(objective=leaky(model)), optimizer="sgd").step(state, batch)

    return Algorithm(stepper.init, step)


def narrows_the_state(stepper):
    def step(state, batch):
        state, metrics = stepper.step(state, batch)
        narrow = {"seen": state.variables.state["seen"].astype(jnp.bfloat16)}
        return state._replace(variables=state.variables._replace(state=narrow)), metrics

    return Algorithm(stepper.init, step)


def counts_in_the_default_width(stepper):
    """Of 32 bits, unless jax makes arrays of 64."""

    def step(state, batch):
        state, metrics = stepper.step(state, batch)
        seen = {"seen": state.variables.state["seen"] + jnp.zeros(())}
        return state._replace(variables=state.variables._replace(state=seen)), metrics

    return Algorithm(stepper.init, step)


def widens_the_state(stepper):
    """Weakly typed at first; a step makes it strong."""

    def init(key, hparams, batch):
        state = stepper.init(key, hparams, batch)
        return state._replace(variables=state.variables._replace(state={"seen": 0.0 * jnp.full((), 1.0)}))

    return Algorithm(init, stepper.step)


def reports_a_vector(stepper):
    def step(state, batch):
        state, metrics = stepper.step(state, batch)
        return state, metrics | {"rows": batch["x"][:, 0, 0, 0]}

    return Algorithm(stepper.init, step)


def with_decoder(change):
    def changed(model):
        def decode(variables, hparams, z, batch):
            drawn = model.decode(variables, hparams, z, batch)
            return dataclasses.replace(drawn, loc=change(drawn.loc), log_scale=change(drawn.log_scale))

        def sample(key, variables, hparams, n, condition=None):
            return decode(variables, hparams, jax.random.normal(key, (n, 1)), {})

        return model._replace(decode=decode, sample=sample)

    return changed


def with_log_weights(change):
    def changed(model):
        def log_weights(*args):
            return change(model.log_weights(*args))

        return model._replace(log_weights=log_weights)

    return changed


def falling(weights):
    return weights - 0.1 * jnp.arange(len(weights))[:, None]


def repeated(weights):
    return jnp.broadcast_to(weights[:1], weights.shape)


def boasts(model):
    def objective(*args, **kwargs):
        outcome = model.objective(*args, **kwargs)
        return outcome._replace(metrics={"elbo": outcome.metrics["elbo"] + 1.0})

    return model._replace(objective=objective)


def reports_nan(model):
    def objective(*args, **kwargs):
        outcome = model.objective(*args, **kwargs)
        return outcome._replace(metrics={"elbo": jnp.full_like(outcome.metrics["elbo"], jnp.nan)})

    return model._replace(objective=objective)


def reports_shares_of_the_batch(model):
    def objective(*args, **kwargs):
        outcome = model.objective(*args, **kwargs)
        elbo = outcome.metrics["elbo"]
        return outcome._replace(metrics={"elbo": elbo, "above_mean": elbo - jnp.mean(elbo)})

    return model._replace(objective=objective)


def centres_codes_in_the_batch(model):
    """Normalisation by the statistics of a batch, in evaluation too."""

    def encode(*args):
        posterior = model.encode(*args)
        return dataclasses.replace(posterior, loc=posterior.loc - jnp.mean(posterior.loc, axis=0))

    return model._replace(encode=encode)


def counts_padding(model):
    """Log weights of single examples that depend on how many there are."""

    def decode(variables, hparams, z, batch):
        drawn = model.decode(variables, hparams, z, batch)
        return dataclasses.replace(drawn, loc=drawn.loc + 0.1 * z.shape[-2])

    return model._replace(decode=decode)


class NoVariance(NamedTuple):
    """A posterior that training is content with, but evaluation is not."""

    mean: jax.Array
    sample: Callable[..., jax.Array]
    log_prob: Callable[..., jax.Array]


class SummedVariance(NamedTuple):
    """A posterior with one variance per example."""

    mean: jax.Array
    sample: Callable[..., jax.Array]
    log_prob: Callable[..., jax.Array]

    @property
    def variance(self):
        return jnp.ones(self.mean.shape[:-1])


def with_posterior(kind):
    """The model whose ``encode`` returns a posterior of another class."""

    def changed(model):
        def encode(*args):
            posterior = model.encode(*args)
            return kind(posterior.mean, posterior.sample, posterior.log_prob)

        return model._replace(encode=encode)

    return changed


def reads_an_undeclared_label(model):
    def encode(key, variables, hparams, batch):
        posterior = model.encode(key, variables, hparams, batch)
        return dataclasses.replace(posterior, loc=posterior.loc + 0.1 * batch["y"][:, None])

    return model._replace(encode=encode)


# the law, why it must raise, what it then says, and the model
BROKEN = [
    ("one_trace", "a number", "`int` function", module(change_algorithm=reads_a_hyperparameter_as_a_number)),
    ("chunks_are_invisible", "drawn when traced", "differ", module(with_inputs(draws_when_traced))),
    ("chunks_are_invisible", "traced twice", "traced again", module(change_algorithm=widens_the_state)),
    ("members_equal_solo_runs", "another rule under vmap", "differ", module(with_inputs(sensitive_to_vmap))),
    ("resume_is_exact", "state outside the state", "differ", module(with_inputs(counts_outside_the_state))),
    ("sharding_changes_nothing", "rows of its device", "differ", module(with_inputs(sees_its_devices_rows))),
    ("finite_gradients", "nan on constants", "images of the constant 0 give", module(with_inputs(standardised))),
    ("finite_gradients", "nan gradient, clipped", "constant 0 give", module(cusp_at_black, hparams=ClippedHParams)),
    ("finite_gradients", "nan gradient", "finite", module(cusp_at_black)),
    ("groups_keep_apart", "a step of its own", "differ", module(change_algorithm=leaks, groups=("vae", "critic"))),
    ("runs_in_64_bits", "default width", "seen is float32", module(change_algorithm=counts_in_the_default_width)),
    ("stable_state", "another dtype", "bfloat16 != float32", module(change_algorithm=narrows_the_state)),
    (
        "stable_state",
        "a metric per example",
        "metrics of a step are scalars",
        module(change_algorithm=reports_a_vector),
    ),
    (
        "shapes",
        "even sizes",
        "have shapes",
        module(with_decoder(lambda mean: mean[..., : mean.shape[-3] // 2 * 2, :, :])),
    ),
    ("shapes", "one channel", "have shapes", module(with_decoder(lambda mean: mean[..., :1]))),
    ("shapes", "nan images", "non-finite", module(with_decoder(lambda mean: jnp.log(mean - 100.0)))),
    ("bounds_tighten", "falls", "from 4 samples to 16", module(with_log_weights(falling))),
    ("bounds_tighten", "one draw for all", "no tighter bound", module(with_log_weights(repeated))),
    ("bounds_tighten", "an elbo too good", "from elbo to 1 sample", module(boasts)),
    (
        "evaluation_completes",
        "no variance",
        r"encode returns a NoVariance without `variance`; .* define a property `variance`, zero where",
        module(with_posterior(NoVariance)),
    ),
    (
        "evaluation_completes",
        "variance of another shape",
        r"`variance` has shape \(8,\), expected \(8, 1\) like `mean`; evaluation computes",
        module(with_posterior(SummedVariance)),
    ),
    (
        "evaluation_completes",
        "latents of another size",
        r"evaluation fails after training: ValueError: .* blocks of \[7\] entries, expected 1",
        module(change_recipe=lambda recipe: recipe._replace(latents=(Latents("normal", 7),))),
    ),
    (
        "evaluation_completes",
        "a figure of nothing",
        "evaluation fails after training: ValueError: draw: Bars.heights has shape",
        module(change_recipe=lambda recipe: recipe._replace(figures={"weights": lambda *_: Bars(np.zeros(0))})),
    ),
    (
        "evaluation_completes",
        "nan metrics",
        "evaluation finds no finite value of elbo, .*elbo_standard_error, ",
        module(reports_nan),
    ),
    (
        "losses_are_means_of_examples",
        "a penalty on a mean",
        "the loss of vae compares the examples of a batch: .*; say Model.compares_examples",
        module(penalises_the_mean_bound),
    ),
    (
        "metrics_per_example_are_of_one",
        "a metric that sees the batch",
        "the metric above_mean of an example is .* beside other examples; report its mean over the batch, a scalar",
        module(reports_shares_of_the_batch),
    ),
    (
        "evaluation_ignores_division",
        "codes that see the batch",
        "the mean of posteriors: depends on how the split is divided",
        module(centres_codes_in_the_batch),
    ),
    (
        "evaluation_ignores_division",
        "decoding that counts the batch",
        "what is decoded: depends on how the split is divided",
        module(counts_padding),
    ),
    (
        "trained_run_is_usable",
        "a label that the recipe does not declare",
        r"vaex.load\(...\) fails after training: KeyError: 'y'",
        module(reads_an_undeclared_label),
    ),
    (
        "trained_run_is_usable",
        "reconstructions of another shape",
        r"decode has shape \(8, 8, 8\), expected \(8, 8, 8, 1\)",
        module(with_decoder(lambda mean: mean[..., 0])),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "match", "broken"),
    [pytest.param(law, match, model, id=f"{law}-{why}") for law, why, match, model in BROKEN],
)
def test_a_broken_model_breaks_its_law(law, match, broken):
    with pytest.raises((AssertionError, jax.errors.ConcretizationTypeError), match=match):
        testing.LAWS[law](testing.build_subject(broken))


@pytest.mark.slow
@pytest.mark.parametrize("groups", [("vae",), ("vae", "critic")])
def test_a_sound_model_keeps_every_law(groups):
    laws = tuple(testing.LAWS) if len(groups) == 1 else ("groups_keep_apart", "stable_state", "finite_gradients")
    report = testing.check_model(module(groups=groups), laws)
    assert list(report) == list(laws) and all(result.seconds >= 0 for result in report.values())
    skipped = {law: result.skipped for law, result in report.items() if result.skipped}
    assert skipped == ({"groups_keep_apart": "the model has one parameter group"} if len(groups) == 1 else {})


def test_a_model_without_a_density_has_no_bounds_to_check():
    subject = testing.build_subject(module(lambda model: model._replace(log_weights=None)))
    with pytest.raises(testing.NothingToCheck, match="log_weights is None: the model defines no density"):
        testing.LAWS["bounds_tighten"](subject)


def test_one_device_has_no_sharding_to_check(monkeypatch):
    subject = testing.build_subject(module())
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    with pytest.raises(testing.NothingToCheck, match=r"one device; .*xla_force_host_platform_device_count=8"):
        testing.LAWS["sharding_changes_nothing"](subject)


@pytest.mark.slow
def test_a_law_passes_where_one_stage_has_something_to_check(monkeypatch):
    first, last = testing.build_subjects("helpers.two_stages")
    checked = []

    def decoding(subject):
        subject.require_last_stage("decoding")
        checked.append(subject.stage)

    monkeypatch.setitem(testing.LAWS, "decoding", decoding)
    testing.check_law("decoding", [first, last])
    assert checked == [1]
    with pytest.raises(testing.NothingToCheck, match=r"^decoding takes the variables of the last stage, prior$"):
        testing.check_law("decoding", [first, first])


class FitsOneSize(nn.Module):
    """An encoder that takes images of 12x10 pixels alone."""

    @nn.compact
    def __call__(self, x):
        assert x.shape[1:] == (12, 10, 1)
        return nn.relu(nn.Dense(4)(x.reshape(x.shape[0], -1)))


OWN = {"encoder": FitsOneSize(), "decoder": nn.Dense(120)}


@pytest.mark.slow
def test_networks_that_fit_one_size_are_tried_at_that_size_alone():
    assert testing.check_model("vae", ["shapes"], shape=(12, 10, 1), **OWN)["shapes"].skipped == ""
    with pytest.raises(UserError, match="encoder: fails on x of shape"):
        testing.build_subject("vae", **OWN)


def test_a_model_file_names_the_only_size_that_it_fits():
    fits = module()
    fits.SHAPE = (12, 10, 1)
    subject = testing.build_subject(fits)
    assert subject.spec.shape == (12, 10, 1) and not subject.fits_any_shape
    assert testing.build_subject(module()).fits_any_shape


@pytest.mark.slow
def test_own_networks_keep_the_laws():
    laws = ("one_trace", "members_equal_solo_runs", "resume_is_exact", "evaluation_completes", "trained_run_is_usable")
    assert list(testing.check_model("vae", laws, shape=(12, 10, 1), **OWN)) == list(laws)


def test_every_law_is_broken_above():
    assert {law for law, *_ in BROKEN} == set(testing.LAWS)
