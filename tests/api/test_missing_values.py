"""Tables through the front door: standardised columns, missing entries, imputation."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex import data
from vaex.data.spec import Dataset
from vaex.errors import UserError
from vaex.models import registry
from vaex.schedules import resolve

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(300, 2))
X = (Z @ RNG.normal(size=(2, 4)) + 0.1 * RNG.normal(size=(300, 4))) * [1e-4, 1.0, 30.0, 1e5] + [0.0, -9.0, 4.0, 1e6]
GAPS = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
SMALL = {"hidden": (64,), "latent_dim": 2, "batch_size": 32, "progress": False}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "ladder_vae"])
@pytest.mark.parametrize("scale", ["global", "per_column", "per_pixel", "fixed"])
def test_bounds_are_in_the_units_of_the_data(model, scale):
    """The bound of a table is that of its standardised columns less the log-determinant, to 1e-4 nats."""
    module = registry.module(model)
    spec = Dataset.from_arrays(X).spec
    standardised = ((X - spec.location) / spec.scale).astype(np.float32)
    config = dataclasses.replace(module.Config(), **module.TINY, likelihood_scale=scale)
    hparams = resolve(module.HParams(), jnp.int32(5000))
    elbos = []
    for of, x in (
        (spec, X.astype(np.float32)),
        (data.resolve(spec._replace(unit=1.0), standardize="none"), standardised),
    ):
        built = module.build(config, of).stages[0].model
        batch = {"x": jnp.asarray(x[:50])}
        variables = jax.jit(built.init)(jax.random.key(0), batch)
        objective = jax.jit(
            lambda v, b, objective=built.objective: objective(jax.random.key(1), v, hparams, b, train=False)
        )
        elbos.append(np.asarray(objective(variables, batch).metrics["elbo"]))
    np.testing.assert_allclose(
        elbos[0] + np.log(spec.scale).sum(), elbos[1], atol=1e-4 * max(1.0, np.abs(elbos[1]).max())
    )


@pytest.fixture(scope="module")
def run():
    return vaex.train(
        "vae", GAPS, steps=2000, learning_rate=0.003, likelihood_scale="per_column", evaluate=False, **SMALL
    )


def conditional_means(x):
    """x with the best guess of what is missing: its mean under the Gaussian from which the rows were drawn."""
    filled, covariance = x.copy(), (X - X.mean(0)).T @ (X - X.mean(0)) / len(X)
    for row in filled:
        o, m = ~np.isnan(row), np.isnan(row)
        row[m] = X.mean(0)[m] + covariance[np.ix_(m, o)] @ np.linalg.solve(
            covariance[np.ix_(o, o)], (row - X.mean(0))[o]
        )
    return filled


@pytest.mark.slow
def test_a_table_with_gaps_trains_and_its_missing_entries_are_imputed(run):
    x = np.where(np.isnan(GAPS), X, GAPS)
    imputation = run.impute(jax.random.key(0), GAPS, num_samples=200, num_draws=3)
    missing = np.isnan(GAPS)
    deviations = X.std(0)

    def error(filled):
        return np.sqrt(np.mean((((filled - x) / deviations)[missing]) ** 2))

    assert imputation.draws.shape == (3, *X.shape)
    np.testing.assert_array_equal(np.asarray(imputation.mean)[~missing], GAPS.astype(np.float32)[~missing])
    assert error(np.asarray(imputation.mean)) < 1.5 * error(conditional_means(GAPS))


@pytest.mark.slow
def test_a_run_with_gaps_is_evaluated_encoded_and_sampled_in_units_of_the_data(run):
    summary = run.evaluate(progress=False, eval_samples=10)
    assert np.isfinite(summary["members"][0]["elbo"]) and np.isfinite(summary["members"][0]["log_likelihood"])
    assert np.isfinite(run.encode(GAPS[:5]).mean).all()
    samples = np.asarray(run.sample(jax.random.key(0), 200, show="sample"))
    assert np.all(np.abs(samples.mean(0) - X.mean(0)) < X.std(0)) and np.all(samples.std(0) < 3 * X.std(0))
    assert {"reconstructions"} <= set(run.figures())


@pytest.mark.slow
def test_log_likelihoods_of_gaps_are_marginal_ones(run):
    """p(x_o) of one column decreases as the column leaves its range, and is 1 where nothing is observed."""
    nothing = np.full((1, 4), np.nan)
    assert float(run.log_likelihood(jax.random.key(0), nothing, 2000)[0]) == pytest.approx(0.0, abs=0.2)


@pytest.mark.slow
def test_what_cannot_impute_says_why(run):
    complete = vaex.train("vae", X, steps=1, evaluate=False, **SMALL)
    with pytest.raises(ValueError, match="impute: arrays has no missing values"):
        complete.impute(jax.random.key(0), X)
    with pytest.raises(ValueError, match="x holds 4 NaN or infinite values"):
        complete.encode(np.full((1, 4), np.nan))
    with pytest.raises(ValueError, match="impute: num_samples=0"):
        run.impute(jax.random.key(0), GAPS, num_samples=0)


@pytest.mark.slow
def test_objectives_that_need_every_value_are_refused_before_training():
    with pytest.raises(
        UserError, match=r"--model=vamp_vae: its objective needs every value .* use --model=vae or iwae"
    ):
        vaex.train("vamp_vae", GAPS, steps=1, batch_size=32, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["denoising_autoencoder", "contractive_autoencoder", "wae", "mixture_vae"])
def test_other_models_train_on_tables_with_gaps(model):
    run = vaex.train(model, GAPS, steps=2, batch_size=32, progress=False)
    assert np.isfinite(run.encode(GAPS[:3]).mean).all()


@pytest.mark.slow
def test_runs_from_before_columns_were_standardised_load_as_they_were(tmp_path):
    vaex.train("vae", X, steps=2, standardize="none", out=str(tmp_path / "run"), evaluate=False, **SMALL)
    path = tmp_path / "run" / "config.json"
    content = json.loads(path.read_text())
    content.pop("digest")
    assert content["identity"].pop("standardize") == "none"
    for added in ("location", "scale", "missing"):
        content["data"].pop(added)
    path.write_text(json.dumps(content))
    run = vaex.load(tmp_path / "run")
    assert run.spec.location == ()
    assert run.settings.data.standardize == "none"
    again = {"out": str(tmp_path / "run"), **SMALL}
    with pytest.raises(UserError, match="standardize: none -> auto"):
        vaex.train("vae", X, steps=3, **again)
    assert vaex.train("vae", X, steps=3, standardize="none", **again).step == 3
