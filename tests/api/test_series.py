"""Series [t, c] from arrays and files: trained, masked, drawn as curves, and scored by step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex import data
from vaex.data import announcement
from vaex.data.measure import columns, measure
from vaex.data.spec import Dataset, Spec
from vaex.data.storage.lengths import without_padding
from vaex.distributions import Bernoulli, Normal, Observed
from vaex.errors import UserError
from vaex.evaluation.series import band_panels, by_step, step_scores

RNG = np.random.default_rng(0)
STEPS = 12
QUICK = {
    "steps": 2,
    "batch_size": 8,
    "hidden": (8,),
    "latent_dim": 2,
    "progress": False,
    "kind": "series",
    "evaluate": False,
}
PHASE = RNG.uniform(0, 2 * np.pi, (60, 1))
WAVES = np.stack([np.sin(PHASE + np.arange(STEPS) / 2), 1e3 * np.cos(PHASE + np.arange(STEPS) / 2) + 5e3], axis=-1)
LENGTHS = RNG.integers(4, STEPS + 1, 60)
PADDED = np.where(np.arange(STEPS)[:, None] < LENGTHS[:, None, None], WAVES, np.nan)


def test_channels_are_standardised_over_all_steps():
    spec = Dataset.from_arrays(WAVES, kind="series").spec
    train = Dataset.from_arrays(WAVES, kind="series").splits["train"]["x"]
    np.testing.assert_allclose(spec.location, train.mean((0, 1)), rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(spec.scale, train.std((0, 1)), rtol=5e-3)
    assert columns(measure(Spec("t", (2, 1), "real"), np.array([[[1.0], [3.0]], [[1.0], [5.0]]])))[0] == (4.0,)


@pytest.mark.parametrize("form", ["memory", "npz", "splits"])
def test_lengths_are_missing_ends(tmp_path, form):
    arrays = {"x": WAVES, "lengths": LENGTHS}
    if form == "splits":
        arrays = {"x_train": WAVES, "x_test": WAVES, "x_validation": WAVES}
        arrays |= {f"lengths_{split}": LENGTHS for split in ("train", "test", "validation")}
    if form == "npz":
        np.savez(tmp_path / "own.npz", **arrays)
        dataset = data.load(str(tmp_path / "own.npz"), kind="series")
    else:
        dataset = Dataset.from_arrays(arrays, kind="series")
    padded = Dataset.from_arrays(PADDED, kind="series")
    assert dataset.spec.missing and dataset.spec.kind == "real"
    if form == "splits":
        np.testing.assert_array_equal(dataset.splits["test"]["x"], PADDED.astype(np.float32))
        return
    for split, arrays in padded.splits.items():
        np.testing.assert_array_equal(dataset.splits[split]["x"], arrays["x"])
    share = np.isnan(padded.splits["train"]["x"]).mean()
    line = announcement.lines(dataset, dataset.spec, announcement.Choices("tc", None, ""))[0]
    assert f"{share:.1%} of them missing; channels standardised" in line


@pytest.mark.slow
def test_binary_series_of_unequal_lengths_are_bits():
    bits = (WAVES > 0).astype(np.uint8)
    spec = Dataset.from_arrays({"x": bits, "lengths": LENGTHS}, kind="series").spec
    assert (spec.kind, spec.levels, spec.missing) == ("binary", None, True)
    run = vaex.train("vae", {"x": bits, "lengths": LENGTHS}, network="recurrent", **QUICK)
    assert run.recipe.likelihood.title == "bernoulli, of observed values"
    assert np.isfinite(run.log_likelihood(jax.random.key(0), np.where(np.isnan(PADDED), np.nan, bits)[:3], 4)).all()


@pytest.mark.parametrize(
    ("lengths", "match"),
    [
        (LENGTHS[:-1], "are int64 of shape .59,., expected integers from 1 to 12, one for each of 60 series"),
        (LENGTHS + 1, "from 5 to 13, expected"),
        (LENGTHS * 1.0, "are float64"),
    ],
)
def test_refused_lengths(lengths, match):
    with pytest.raises(UserError, match=match):
        Dataset.from_arrays({"x": WAVES, "lengths": lengths}, kind="series")


def test_lengths_are_for_series():
    with pytest.raises(
        UserError, match=r"are lengths of series, and x has examples of shape .12, 2, 1.; .*--kind=series"
    ):
        without_padding("a.npz: lengths", np.zeros((60, 12, 2, 1)), LENGTHS)


@pytest.mark.slow
def test_what_is_padded_changes_no_bound():
    """The bound of a series is one of its observed steps: other numbers at missing places would change it, no numbers cannot."""
    run = vaex.train("vae", PADDED, network="conv1d", channels=(4,), likelihood_scale="per_column", **QUICK)
    short = PADDED[LENGTHS < STEPS][:4]
    z = run.encode(short).mean
    expected = Normal(
        *(jnp.asarray(part) for part in (run.decode(z).mean, run.decode(z).variance ** 0.5)), event_ndims=0
    )
    observed = ~np.isnan(short)
    by_hand = np.where(observed, expected.log_prob(jnp.where(observed, short, 0.0)), 0.0).sum((1, 2))
    np.testing.assert_allclose(run.decode(z).log_prob(jnp.asarray(short, jnp.float32)), by_hand, rtol=1e-4)
    imputed = run.impute(jax.random.key(1), short, 16)
    np.testing.assert_allclose(np.asarray(imputed.mean)[observed], short[observed], rtol=1e-5)


def test_scores_are_those_of_each_step():
    loc, x = RNG.normal(size=(3, 4, 5, 2)), RNG.normal(size=(4, 5, 2)).astype(np.float32)
    x[0, 3:] = np.nan
    base = Normal(jnp.asarray(loc, jnp.float32), jnp.ones((3, 4, 5, 2)), event_ndims=0)
    scores = step_scores(Observed(base, 2), jnp.asarray(x))
    log_px = np.nan_to_num(-0.5 * (x - loc) ** 2 - 0.5 * np.log(2 * np.pi)).sum(-1)
    np.testing.assert_allclose(scores, -np.log(np.exp(log_px).mean(0)), atol=1e-5)
    assert (scores[0, 3:] == 0).all()
    assert by_step(Bernoulli(jnp.zeros((4, 5, 2)), 2)).log_prob(jnp.zeros((4, 5, 2))).shape == (4, 5)
    with pytest.raises(ValueError, match="Normal has no independent steps"):
        by_step(Normal(jnp.zeros(3), jnp.ones(3)))


@pytest.mark.slow
def test_a_step_that_fits_no_series_stands_out():
    run = vaex.train(
        "vae",
        WAVES,
        network="conv1d",
        channels=(8, 8),
        **(QUICK | {"steps": 400, "hidden": (32,), "learning_rate": 3e-3}),
    )
    broken = WAVES[:20].copy()
    broken[:, 7, 0] += 2.0
    scores = np.asarray(run.step_scores(jax.random.key(0), broken, 20))
    assert scores.shape == (20, STEPS)
    assert (scores.argmax(1) == 7).mean() > 0.9
    with pytest.raises(ValueError, match="num_samples=0"):
        run.step_scores(jax.random.key(0), broken, 0)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        pytest.param("vae", {"network": "recurrent"}, marks=pytest.mark.slow),
        pytest.param("vae", {"network": "transformer"}, marks=pytest.mark.slow),
        pytest.param("sequence_vae", {"recurrent": 4}, marks=pytest.mark.slow),
        pytest.param("td_vae", {"recurrent": 4, "max_jump": 2, "pairs": 2}, marks=pytest.mark.slow),
    ],
)
def test_models_of_series_are_trained_evaluated_and_drawn(model, options):
    run = vaex.train(model, PADDED, **(QUICK | options | {"evaluate": True}))
    figures = run.figures()
    assert {"reconstructions", "samples"} <= {name.rpartition("/")[2] for name in figures}
    assert np.isfinite(run.step_scores(jax.random.key(0), PADDED[:3], 3)).all()
    if model != "vae":
        ahead = run.predict(jax.random.key(0), PADDED[:3, :5], 2, 4)
        assert ahead.mean.shape == (4, 3, 2)
        assert "predictions" in {name.rpartition("/")[2] for name in figures}


def test_panels_have_gaps_before_a_prediction_begins():
    panels = band_panels(
        PADDED[:4], WAVES[:4, 8:], WAVES[None, :4, 8:] + np.array([-1.0, 1.0])[:, None, None, None], start=8
    )
    assert len(panels) == 6
    lower, upper = panels[0].bands["mean, 5% to 95%"]
    assert np.isnan(lower[:8]).all() and (lower[8:] < upper[8:]).all()
    with pytest.raises(ValueError, match=r"expected .n, t, c. and .n, t - 3, c."):
        band_panels(WAVES, WAVES, start=3)
