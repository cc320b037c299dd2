"""What labels change outside the models: summaries, figures and the codec, for models that are given labels or infer them."""

import contextlib
import functools
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.command import parse

import vaex
from vaex import data, plots
from vaex.api.trained_model import TrainedModel
from vaex.cli import main as cli
from vaex.data.spec import Spec
from vaex.evaluation import classification
from vaex.evaluation.examples import chosen_examples
from vaex.plots.records import Grid
from vaex.runs import setup
from vaex.schedules import resolve
from vaex.training import population
from vaex.training.step import averaged_variables

KEY = jax.random.key(0)
QUICK = (
    "--hidden=8",
    "--latent_dim=2",
    "--steps=4",
    "--batch_size=20",
    "--eval_samples=4",
    "--eval_images=30",
    "--devices=1",
)
SPEC = Spec("binary", (8, 8, 1), "binary", levels=2, num_classes=3)
X = np.random.default_rng(0).integers(0, 2, (5, 8, 8, 1)).astype(np.uint8)
CLASSIFIERS = ("m2_vae", "semi_supervised_vae")


def train(directory, *flags):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as said:
        code = cli.main([f"--out={directory}", *QUICK, *flags])
    return code, out.getvalue(), said.getvalue()


# --- a run on digits --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A conditional run, and one of two stages with 20 labels; the figures that each drew, by name."""
    runs = {}
    original = plots.save
    for name, flags in {
        "conditional_vae": (),
        "semi_supervised_vae": ("--labels=20", "--m2_steps=4", "--m2_hidden=8", "--m2_latent_dim=3"),
    }.items():
        drawn = {}

        def keep(figure, path, drawn=drawn):
            drawn[path.name] = figure
            return original(figure, path)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plots, "save", keep)
            folder = tmp_path_factory.mktemp(name) / "run"
            code, out, said = train(folder, f"--model={name}", *flags)
        assert code == 0, said
        runs[name] = folder, drawn, json.loads((folder / "summary.json").read_text()), out
    return runs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conditional_vae", "semi_supervised_vae"])
def test_samples_show_every_class_and_examples_change_theirs(trained, name):
    _, drawn, _, _ = trained[name]
    samples, changed = drawn["samples.png"], drawn["classes.png"]
    assert isinstance(samples, Grid) and samples.row_labels == tuple("0123456789")
    assert samples.images.shape[:2] == (10, 10) and changed.column_labels == ("original", *"0123456789")
    assert changed.images.shape[:2] == (10, 11)
    assert {"reconstructions.png", "traversals.png", "kl_per_latent.png"} <= set(drawn)
    assert ("manifold.png" in drawn) == (name == "conditional_vae")


@pytest.mark.slow
def test_the_row_of_a_class_is_made_of_the_same_latents(trained):
    """Decoded by hand from the z that the figure's key draws."""
    folder, drawn, _, _ = trained["conditional_vae"]
    run = vaex.load(folder)
    key = jax.random.fold_in(jax.random.key(20131220), 5)
    z = jax.random.normal(key, (10, 2))
    for label in (0, 7):
        by_hand = np.clip(run.decode(z, label).mean, 0, 1)
        np.testing.assert_allclose(drawn["samples.png"].images[label], by_hand, atol=1e-5)
    original = data.load("digits").splits["test"]
    rows = chosen_examples(len(original["x"]), 10)
    mean = run.encode(original["x"][rows], original["y"][rows]).mean
    by_hand = np.clip(run.decode(mean, 3).mean, 0, 1)
    np.testing.assert_allclose(drawn["classes.png"].images[:, 4], by_hand, atol=1e-5)


@pytest.mark.slow
def test_summaries_say_how_well_labels_are_inferred(trained):
    _, _, conditional, out = trained["conditional_vae"]
    assert conditional["given"] == "label" and "of x given its label" in out and "generative_accuracy" in out
    assert conditional["members"][0]["generative_accuracy"] is not None and "accuracy" not in conditional["members"][0]
    _, _, inferred, out = trained["semi_supervised_vae"]
    member = inferred["members"][0]
    assert "given" not in inferred and "of x given its label" not in out
    for name in ("accuracy", "generative_accuracy"):
        assert 0 <= member[name] <= 1 and 0 < member[f"{name}_standard_error"] < 0.1
    assert set(inferred["results"][0]) >= {"accuracy", "generative_accuracy"}


@pytest.mark.slow
def test_the_reported_accuracy_is_the_codecs(trained):
    folder, _, summary, _ = trained["semi_supervised_vae"]
    test = data.load("digits").splits["test"]
    predicted = vaex.load(folder).classify(test["x"]).mode
    assert summary["members"][0]["accuracy"] == pytest.approx(np.mean(np.asarray(predicted) == test["y"]), abs=1e-6)


@pytest.mark.slow
def test_evaluation_of_a_classifier_never_sees_the_splits_labels(trained, tmp_path):
    """With other test labels, only the numbers that compare with them change."""
    splits = data.load("digits").splits
    names = {"train": "train", "validation": "validation", "test": "test"}
    arrays = {f"x_{new}": splits[old]["x"] for old, new in names.items()}
    members = []
    for shift in (0, 1):
        shifted = {f"y_{new}": (splits[old]["y"] + (shift if old == "test" else 0)) % 10 for old, new in names.items()}
        np.savez(tmp_path / f"{shift}.npz", **arrays, **shifted)
        flags = ("--model=m2_vae", f"--dataset={tmp_path / f'{shift}.npz'}", "--labels=20", "--no-figures")
        code, _, said = train(tmp_path / f"run{shift}", *flags)
        assert code == 0, said
        members.append(json.loads((tmp_path / f"run{shift}" / "summary.json").read_text())["members"][0])
    compared = {name for name in members[0] if members[0][name] != members[1][name]}
    assert compared and all("accuracy" in name or name in ("knn_label_agreement", "by_class") for name in compared), (
        compared
    )


@pytest.mark.slow
def test_data_without_labels_is_refused_in_a_line(tmp_path):
    path = tmp_path / "plain.npz"
    np.savez(path, x=np.random.default_rng(0).random((40, 8, 8)))
    for name in ("conditional_vae", *CLASSIFIERS):
        code, _, said = train(tmp_path / name, f"--model={name}", f"--dataset={path}")
        assert code == 2 and "has no labels, and this model reads them" in said and "Traceback" not in said
        assert not (tmp_path / name / "checkpoints").exists()


# --- the codec --------------------------------------------------------------------------------------------------------


@functools.cache
def untrained(model):
    """A run as it starts, without a run directory."""
    settings = parse([f"--model={model}", "--hidden=8", "--latent_dim=2"])
    recipe = setup.build_recipe(settings, SPEC)
    finished = {}
    batch = {"x": jnp.zeros((1, 8, 8, 1)), "y": jnp.zeros(1, jnp.int32)}
    hparams = setup.stack_hparams(settings)
    for index, stage in enumerate(recipe.stages):
        arguments = {"stage": index, "carry_over": stage.carry_over, "finished": finished}
        state = population.init(stage.algorithm, [0], hparams, batch, **arguments)
        finished[stage.name] = averaged_variables(state)
    variables = population.member(finished[recipe.stages[-1].name], 0)
    return TrainedModel(recipe, SPEC, variables, resolve(population.member(hparams, 0), np.int32(0)), 0)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conditional_vae", *CLASSIFIERS])
def test_labels_choose_what_is_encoded_decoded_and_sampled(model):
    run = untrained(model)
    z = np.ones((5, run.latent_shape[0]), np.float32)
    for call in (
        lambda labels: run.encode(X, labels).mean,
        lambda labels: run.decode(z, labels).mean,
        lambda labels: run.sample(KEY, 5, labels),
        lambda labels: run.reconstruct(X, labels),
    ):
        zeros, twos, mixed = (np.asarray(call(labels)) for labels in (0, [2] * 5, np.array([0, 0, 2, 2, 2])))
        assert np.abs(zeros - twos).max() > 1e-6
        np.testing.assert_allclose(mixed, np.concatenate([zeros[:2], twos[2:]]), rtol=1e-5, atol=1e-6)
    assert run.decode(np.ones((3, *z.shape)), [0, 1, 2, 0, 1]).mean.shape == (3, 5, 8, 8, 1)
    assert run.sample(KEY, 7).shape == (7, 8, 8, 1)


@pytest.mark.slow
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_missing_labels_are_the_most_probable_ones(model):
    run = untrained(model)
    best = run.classify(X).mode
    assert run.classify(X).probabilities.shape == (5, 3)
    for labels in (None, -1, np.where(np.arange(5) < 2, -1, best)):
        np.testing.assert_allclose(run.encode(X, labels).mean, run.encode(X, best).mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(run.reconstruct(X, labels), run.reconstruct(X, best), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_the_likelihood_sums_the_classes(model):
    """The same weights in both, so equal to rounding."""
    run = untrained(model)
    of_all = run.class_log_likelihoods(KEY, X, 20)
    assert of_all.shape == (5, 3)
    expected = jax.nn.logsumexp(of_all, axis=1) - np.log(3)
    np.testing.assert_allclose(run.log_likelihood(KEY, X, 20), expected, rtol=1e-5)
    assert np.exp(classification.log_posterior(of_all)).sum() == pytest.approx(5, rel=1e-5)


@pytest.mark.slow
def test_the_likelihood_of_a_conditional_run_is_given_the_label():
    run = untrained("conditional_vae")
    samples = 50_000  # the weights of an untrained model are spread over several nats
    of_all = np.asarray(run.class_log_likelihoods(KEY, X, samples))
    for label in range(3):
        estimates = np.asarray(run.log_likelihood(KEY, X, samples, labels=label))
        np.testing.assert_allclose(estimates, of_all[:, label], atol=0.5)  # other draws


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "call", "says"),
    [
        ("vae", lambda run: run.encode(X, [0] * 5), "encode: this model reads no labels; leave them out"),
        ("vae", lambda run: run.sample(KEY, 2, labels=0), "sample: this model reads no labels"),
        ("vae", lambda run: run.classify(X), "classify: this model has no classifier of its own"),
        ("vae", lambda run: run.class_log_likelihoods(KEY, X), "class_log_likelihoods: this model reads no classes"),
        ("conditional_vae", lambda run: run.encode(X), "encode: this model needs labels, integers from 0 to 2"),
        ("conditional_vae", lambda run: run.decode(np.zeros((5, 2))), "decode: this model needs labels"),
        ("conditional_vae", lambda run: run.log_likelihood(KEY, X), "log_likelihood: this model needs labels"),
        (
            "conditional_vae",
            lambda run: run.encode(X, [0, 1]),
            r"labels have dtype int64 and shape \(2,\), expected integers",
        ),
        ("conditional_vae", lambda run: run.encode(X, [0.0] * 5), "dtype float64"),
        (
            "conditional_vae",
            lambda run: run.encode(X, 3),
            "labels go from 3 to 3, expected 0 to 2, or -1 for unlabelled",
        ),
        ("conditional_vae", lambda run: run.sample(KEY, 2, labels=-2), "labels go from -2 to -2"),
        ("conditional_vae", lambda run: run.classify(X), "classify: this model has no classifier of its own"),
        ("m2_vae", lambda run: run.decode(np.zeros((5, 2)), -1), "labels go from -1 to -1, expected 0 to 2$"),
        ("m2_vae", lambda run: run.decode(np.zeros((5, 2))), "decode: this model needs labels"),
        ("m2_vae", lambda run: run.log_likelihood(KEY, X, labels=0), "sums labels out; leave them out"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(model, call, says):
    with pytest.raises(ValueError, match=says):
        call(untrained(model))
