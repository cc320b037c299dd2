"""Models that read conditions: real numbers and attributes beside each example."""

import dataclasses

import jax
import numpy as np
import pytest

import vaex
from vaex.errors import UserError
from vaex.plots.records import Grid
from vaex.runs.figures import MemberFigures

KEY = jax.random.key(0)
QUICK = {"batch_size": 20, "hidden": (16,), "latent_dim": 2, "progress": False}


@pytest.fixture(scope="module")
def data():
    """Vectors of which the first two entries are conditions, in other units, and the third one noise."""
    rng = np.random.default_rng(0)
    age, glasses = rng.normal(40.0, 10.0, 400), rng.integers(0, 2, 400)
    x = np.stack([(age - 40) / 10, 2.0 * glasses - 1, rng.normal(size=400)], axis=1) + 0.05 * rng.normal(size=(400, 3))
    return x, np.stack([age, glasses], axis=1)


@pytest.fixture(scope="module")
def run(data):
    x, y = data
    arrays = {"x": x, "y": y, "condition_names": ["age", "glasses"]}
    return vaex.train("conditional_vae", arrays, steps=600, evaluate=False, **QUICK)


def test_samples_have_the_conditions_that_are_asked_for(run):
    assert [condition.name for condition in run.spec.conditions] == ["age", "glasses"]
    young, old = (run.sample(KEY, 50, [age, 1.0]) for age in (30.0, 50.0))
    np.testing.assert_allclose([young[:, 0].mean(), old[:, 0].mean()], [-1.0, 1.0], atol=0.3)
    glasses = run.sample(KEY, 4, [[40.0, 0.0], [40.0, 1.0], [40.0, 0.0], [40.0, 1.0]])
    assert (glasses[::2, 1] < -0.5).all() and (glasses[1::2, 1] > 0.5).all()
    drawn = np.asarray(run.sample(KEY, 300))  # conditions of training examples
    np.testing.assert_allclose([drawn[:, 0].std(), np.abs(drawn[:, 1]).mean()], [1.0, 1.0], atol=0.3)
    assert abs(drawn[:, 1].mean()) < 0.4


@pytest.mark.slow
def test_every_method_takes_conditions(run, data):
    x, y = (array[:5] for array in data)
    near, far = run.log_likelihood(KEY, x, 8, labels=y), run.log_likelihood(KEY, x, 8, labels=y + np.array([10.0, 0.0]))
    assert (np.asarray(near) > np.asarray(far)).all()
    assert run.encode(x, y).mean.shape == (5, 2) and run.reconstruct(x, y[0]).shape == (5, 3)
    assert run.decode(np.zeros((4, 5, 2)), y).mean.shape == (4, 5, 3)
    for labels, match in (
        (None, r"needs labels, numbers \[5, 2\], or \[2\] for all"),
        (y[:, :1], r"shape \(5, 1\), expected numbers \[5, 2\]"),
        (y * np.nan, "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=match):
            run.encode(x, labels)
    with pytest.raises(ValueError, match="reads no classes"):
        run.class_log_likelihoods(KEY, x)


@pytest.mark.slow
def test_a_run_with_conditions_is_evaluated_kept_exported_and_continued(data, tmp_path):
    x, y = data
    run = vaex.train("conditional_vae", (x, y), steps=4, out=tmp_path / "run", **QUICK)
    summary = run.evaluate(progress=False)
    [numbers] = summary["members"]
    assert summary["given"] == "conditions" and np.isfinite(numbers["elbo"]) and "generative_accuracy" not in numbers
    assert "of x given its conditions" in run.table()
    loaded = vaex.load(tmp_path / "run")
    assert loaded.spec == run.spec
    np.testing.assert_array_equal(loaded.sample(KEY, 3), run.sample(KEY, 3))
    run.export(tmp_path / "exported")
    longer = run.continue_to(6, progress=False)
    entire = vaex.train("conditional_vae", (x, y), steps=6, **QUICK)
    np.testing.assert_array_equal(longer.sample(KEY, 3), entire.sample(KEY, 3))
    with pytest.raises(UserError, match="reads conditions, for which a page has no controls"):
        run.page(tmp_path / "page.html")


@pytest.mark.slow
@pytest.mark.parametrize("model", ["conditional_vae", "vq_vae"])
def test_figures_move_one_condition_in_each_row(model, monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 8, 8), np.uint8), np.c_[rng.normal(size=60), rng.integers(0, 2, 60)]
    drawn, draw = {}, MemberFigures.draw
    monkeypatch.setattr(
        MemberFigures, "draw", lambda self, kl: draw(dataclasses.replace(self, save=drawn.__setitem__), kl)
    )
    options = {"batch_size": 20, "steps": 2, "progress": False, "evaluate": False}
    extra = {"hidden": (8,), "latent_dim": 2} if model == "conditional_vae" else {
        "class_conditional": True, "channels": 4, "blocks": 0, "codes": 4, "code_dim": 2, "codebook_init": "normal",
        "prior_width": 4, "prior_layers": 1, "prior_heads": 2, "prior_steps": 2,
    }  # fmt: skip
    vaex.train(model, (x, y), **options, **extra).figures()
    grid = drawn["conditions"]
    assert isinstance(grid, Grid) and grid.images.shape[1] == (7 if model == "conditional_vae" else 5)
    assert [label.split(":")[0] for label in grid.row_labels] == ["y0", "y1"] and "samples" in drawn
    assert np.isfinite(grid.images[0]).all() and np.isfinite(grid.images[1, :2]).all()
    assert np.isnan(grid.images[1, 2:]).all()


def test_models_of_classes_refuse_conditions(data):
    x, y = data
    for model in ("m2_vae", "semi_supervised_vae"):
        with pytest.raises(UserError, match=r"has conditions, not classes.*--model=conditional_vae"):
            vaex.train(model, (x, y), steps=1, **QUICK)
    with pytest.raises(UserError, match="--balance needs classes"):
        vaex.train("conditional_vae", (x, y), steps=1, balance=True, **QUICK)
