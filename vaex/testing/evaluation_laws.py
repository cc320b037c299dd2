"""Laws of what happens after training: evaluation, figures and the loaded run work, and what they give has the right shape."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from vaex.api.loading import load
from vaex.api.trained_model import TrainedModel
from vaex.data.spec import Dataset
from vaex.results import report
from vaex.runs.config_file import config_content
from vaex.runs.setup import Experiment
from vaex.runs.store import DirectoryStore
from vaex.runs.summary import summarize
from vaex.runs.train import Trained
from vaex.schedules import resolve
from vaex.testing.assertions import assert_equal, assert_finite
from vaex.testing.subject import BATCH, STEPS, build_subjects, quickly
from vaex.training import metrics, population
from vaex.training.step import averaged_variables

if TYPE_CHECKING:
    from vaex.core import Distribution, Variables
    from vaex.testing.subject import Subject

SAMPLES = 3
IMPORTANCE_SAMPLES = 4
OTHER_SHAPES = (((9, 11, 1), "mlp"), ((13, 8, 3), "mlp"), ((9, 11, 3), "conv"))  # and the network that is tried


# --- shapes -----------------------------------------------------------------------------------------------------------


def shapes(subject: Subject) -> None:
    """encode, decode and sample fit odd image sizes and one or three channels by every network, and give finite values.

    A model whose networks fit one shape alone is tried at that.
    """
    subject.require_last_stage("decoding and sampling")
    module, others = subject.settings.module, OTHER_SHAPES if subject.fits_any_shape else ()
    for shape, network in others:
        options = {"network": network} if hasattr(module.Config, "network") else {}
        other = build_subjects(module, shape, abstract=True, **options)[-1]
        states = jax.eval_shape(other.states_after(), other.finished)
        variables = population.member_shapes(states).variables
        z, *images = jax.eval_shape(lambda v, s=other: _codes_and_images(s, v), variables)
        _check_shapes(z, images, other.spec.shape)
    with quickly():
        z, *images = jax.jit(lambda v: _codes_and_images(subject, v))(subject.first_state().variables)
    _check_shapes(z, images, subject.spec.shape)
    assert_finite((z, images))


def _codes_and_images(subject: Subject, variables: Variables) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return codes, reconstructions, and the means and draws of three samples."""
    hparams, key, recipe = subject.first_hparams(), jax.random.key(1), subject.recipe
    batch = subject.input_batch()
    z = recipe.model.encode(key, variables, hparams, batch).mean
    drawn = recipe.model.sample(key, variables, hparams, SAMPLES, None)
    return z, recipe.model.decode(variables, hparams, z, batch).mean, drawn.mean, drawn.sample(key)


def _check_shapes(z: jax.Array, images: Sequence[jax.Array], shape: tuple[int, ...]) -> None:
    assert z.shape[0] == BATCH, f"encode gives codes of shape {z.shape} for {BATCH} examples"
    expected = [(BATCH, *shape), (SAMPLES, *shape), (SAMPLES, *shape)]
    actual = [image.shape for image in images]
    assert actual == expected, f"decode, sample's mean and its draw have shapes {actual}, expected {expected}"


# --- evaluation and figures -------------------------------------------------------------------------------------------


class Need(NamedTuple):
    """A member of a distribution that is read after training.

    ``name``: of the attribute or method. ``purpose``: what reads it. ``remedy``: how to provide it. ``like``: the member whose
    shape it must have, or "".
    """

    name: str
    purpose: str
    remedy: str
    like: str = ""


MEAN = Need("mean", "evaluation decodes it and figures show it", "define a property `mean`")
VARIANCE = Need(
    "variance",
    "evaluation computes the KL per latent and the range of traversals from it",
    "define a property `variance`, zero where the posterior is a point",
    "mean",
)
SAMPLE = Need("sample", "figures with --show=sample and vaex.load draw from it", "define a method `sample(key)`")
LOG_PROB = Need("log_prob", "evaluation scores the frames that come with it", "define a method `log_prob(x)`")
CLASS_LOG_PROBABILITIES = Need(
    "log_probabilities", "evaluation measures accuracy with it", "define a property `log_probabilities` [b, classes]"
)
MODE = Need("mode", "reconstruction of unlabelled examples takes it for the label", "define a property `mode` [b]")


def check_distributions(subject: Subject) -> None:
    """Check that what the recipe's functions return has all that is read of it after training.

    Computes nothing: the functions are traced with shapes alone.

    Raises: AssertionError that says what is missing, what needs it, and the remedy.
    """
    recipe, key, hparams = subject.recipe, jax.random.key(1), subject.first_hparams()
    labels, sequences = recipe.labels, recipe.sequences

    def trace(variables: Variables) -> None:
        batch = subject.input_batch()
        posterior = recipe.model.encode(key, variables, hparams, batch)
        _require("encode", posterior, MEAN, VARIANCE)
        _require("decode", recipe.model.decode(variables, hparams, posterior.mean, batch), MEAN, SAMPLE)
        _require("sample", recipe.model.sample(key, variables, hparams, SAMPLES, None), MEAN, SAMPLE)
        if labels is not None and labels.classify is not None:
            classified = labels.classify(key, variables, hparams, {"x": batch["x"]})
            _require("labels.classify", classified, CLASS_LOG_PROBABILITIES, MODE)
        if sequences is not None:
            predicted = sequences.predict(key, variables, hparams, {"x": batch["x"][:, :1]}, 1, SAMPLES)
            _require("sequences.predict", predicted, MEAN, LOG_PROB)

    jax.eval_shape(trace, subject.first_state().variables)


def _require(function: str, distribution: Distribution, *needs: Need) -> None:
    for need in needs:
        kind = type(distribution).__name__
        try:
            value = getattr(distribution, need.name)
        except (AttributeError, NotImplementedError):
            raise AssertionError(
                f"{function} returns a {kind} without `{need.name}`; {need.purpose}: {need.remedy}"
            ) from None
        if need.like:
            shape, expected = np.shape(value), np.shape(getattr(distribution, need.like))
            assert shape == expected, (
                f"{function} returns a {kind} whose `{need.name}` has shape {shape}, expected {expected} like `{need.like}`; "
                f"{need.purpose}: {need.remedy}"
            )


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn whatever stops the block into an AssertionError that says what a user of the trained model could not do."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(f"{what} fails after training: {type(error).__name__}: {error}") from error


def evaluation_completes(subject: Subject) -> None:
    """A trained run is evaluated and drawn: summary.json has every number, finite, and every figure is there, the model's too."""
    subject.require_last_stage("evaluation")
    with _reported("a call of the recipe's functions"):
        check_distributions(subject)
    run = subject.trained((0,), "solo")
    with tempfile.TemporaryDirectory() as folder, quickly(), _reported("evaluation"):
        experiment = _experiment(subject, pathlib.Path(folder))
        rows = metrics.metric_rows(run.program.metric_names, run.rows, 0, run.program.log_every)
        for stage in range(len(subject.recipe.stages)):
            experiment.store.rows(experiment.place(stage), "metrics", 0).append(rows)
        speed = {"compile_seconds": 0.0, "steps_per_second": 1.0}
        summary = summarize(experiment, Trained(run.carry.state, speed), lambda message: None)
        json.dumps(summary, allow_nan=False)
        assert report.table(summary) and report.protocol_line(summary)
        optional = {"log_likelihood"} if subject.recipe.model.log_weights is None else set()
        absent = {name for name, value in summary["members"][0].items() if value is None} - optional
        assert not absent, f"evaluation finds no finite value of {', '.join(sorted(absent))}"
        drawn = {path.stem for path in (pathlib.Path(folder) / "figures").rglob("*.png")}
        missing = {"reconstructions", "samples", "training_curves", *subject.recipe.figures} - drawn
        assert not missing, f"evaluation draws no figure of {', '.join(sorted(missing))}"


def _experiment(subject: Subject, directory: pathlib.Path) -> Experiment:
    """Return the subject's first member as an experiment with few importance samples, evaluated on the training data."""
    settings = subject.settings
    settings = settings._replace(
        members=settings.members[:1],
        varied=(),
        run=dataclasses.replace(settings.run, batch_size=BATCH),
        evaluation=dataclasses.replace(settings.evaluation, eval_images=BATCH, eval_samples=IMPORTANCE_SAMPLES),
    )
    splits = {"train": subject.arrays, "test": subject.arrays}
    hparams = jax.tree.map(lambda leaf: leaf[:1], subject.hparams)
    stage_steps = (STEPS,) * len(subject.recipe.stages)
    dataset = Dataset(splits, subject.spec)
    return Experiment(settings, DirectoryStore(directory), dataset, subject.spec, subject.recipe, hparams, stage_steps)


# --- the trained run --------------------------------------------------------------------------------------------------


def trained_run_is_usable(subject: Subject) -> None:
    """``vaex.load`` of a run's directory gives the trained variables to the bit, and every method of what it returns gives finite
    values of the right shape."""
    subject.require_last_stage("a trained run")
    with _reported("a call of the recipe's functions"):
        check_distributions(subject)
    x, y, key = subject.arrays["x"][:BATCH], subject.arrays["y"][:BATCH], jax.random.key(0)
    labels = subject.recipe.labels
    infers = labels is not None and labels.classify is not None
    given = None if labels is None or infers else y
    results: dict[str, tuple[jax.Array, tuple[int, ...]]] = {}
    with quickly(), _reported("vaex.load(...)"):
        run = _loaded_run(subject)
        z = run.encode(x, given).mean
        results["encode"] = z, (BATCH, *run.latent_shape)
        results["decode"] = run.decode(z, None if labels is None else y).mean, x.shape
        results["reconstruct"] = run.reconstruct(x, given), x.shape
        results["sample"] = run.sample(key, SAMPLES, show="sample"), (SAMPLES, *x.shape[1:])
        if labels is not None:
            results["sample of a class"] = run.sample(key, SAMPLES, 1), (SAMPLES, *x.shape[1:])
        if labels is not None and labels.classify is not None:
            results["classify"] = run.classify(x).log_probabilities, (BATCH, labels.classes)
        if subject.recipe.model.log_weights is not None:
            results["log_likelihood"] = run.log_likelihood(key, x, IMPORTANCE_SAMPLES, given), (BATCH,)
            if labels is not None:
                results["class_log_likelihoods"] = run.class_log_likelihoods(key, x, 2), (BATCH, labels.classes)
        if subject.recipe.sequences is not None:
            results["predict"] = run.predict(key, x[:, :1], 1, 2).mean, (2, BATCH, *x.shape[2:])
    for name, (value, expected) in results.items():
        assert value.shape == expected, f"{name} has shape {value.shape}, expected {expected}"
        assert np.isfinite(np.asarray(value, np.float64)).all(), f"{name} gives values that are not finite"


def _loaded_run(subject: Subject) -> TrainedModel:
    """Return the trained subject as ``vaex.load`` finds it in a run directory, or from memory where its module has no name by which
    it can be imported again."""
    carry = subject.trained((0,), "solo").carry
    state = population.member(carry.state, 0)
    hparams = resolve(state.hparams, state.step)
    run = TrainedModel(subject.recipe, subject.spec, averaged_variables(state), hparams, STEPS)
    module = subject.settings.module
    if sys.modules.get(module.__name__) is not module:
        return run
    with tempfile.TemporaryDirectory() as folder:
        experiment = _experiment(subject, pathlib.Path(folder))
        store = DirectoryStore(pathlib.Path(folder))
        store.write_config(config_content(experiment.settings, subject.spec, "solo", None))
        for stage in range(len(subject.recipe.stages)):
            (store.folder(experiment.place(stage)) / "checkpoints").mkdir(parents=True)
        checkpoints = store.checkpoints(experiment.place(subject.stage))
        checkpoints.save(STEPS, carry)
        checkpoints.close()
        config = experiment.settings.config
        objects = {
            name: getattr(config, name) for name in ("encoder", "decoder") if getattr(config, name, None) is not None
        }
        loaded = load(folder, member=0, **objects)
    assert_equal((loaded.variables, loaded.hparams), (run.variables, run.hparams))
    return loaded
