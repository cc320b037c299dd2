"""Rate and distortion of runs, and the parts of the rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vaex
from vaex.api.likelihood_bounds import model_inputs
from vaex.api.rate_distortion import DRAWS
from vaex.errors import UserError
from vaex.plots.records import Curves

QUICK = {"steps": 30, "hidden": 16, "latent_dim": 2, "progress": False}


@pytest.mark.slow
def test_rate_and_distortion_are_the_terms_of_the_elbo():
    run = vaex.train("beta_vae", "digits", beta=[0.2, 4.0], **QUICK)
    scores = run.score(["rate_distortion"], examples=200)
    x = jnp.asarray(model_inputs(run, vaex.data.load("digits"), "test", 200))
    for model, row in zip(run, scores.values, strict=True):
        # by the closed form, and many draws of another key
        q = model.recipe.model.encode(jax.random.key(0), model.variables, model.hparams, {"x": x})
        kl = 0.5 * jnp.sum(jnp.square(q.mean) + q.variance - jnp.log(q.variance) - 1.0, axis=-1)
        z = q.sample(jax.random.key(1), (200,))
        log_px = model.recipe.model.decode(model.variables, model.hparams, z, {"x": x}).log_prob(x)
        assert row["rate"].mean == pytest.approx(float(kl.mean()), rel=1e-5)
        error = 5 * np.sqrt(float(jnp.var(log_px, axis=0).mean()) / (DRAWS * len(x)))
        assert row["distortion"].mean == pytest.approx(-float(log_px.mean()), abs=error)
        parts = [row[name] for name in ("index_code_mi", "total_correlation", "dimension_wise_kl")]
        error = 4 * np.sqrt(sum(part.standard_error**2 for part in parts)) + 0.05
        assert sum(part.mean for part in parts) == pytest.approx(float(kl.mean()), abs=error)
    assert scores.values[0]["rate"].mean > scores.values[1]["rate"].mean
    assert "of 200 examples of the test split" in scores.protocol["rate_distortion"]
    curve = scores.figure()[-1]
    assert isinstance(curve, Curves) and len(np.asarray(curve.x)) == 2
    assert list(curve.x) == sorted(row["rate"].mean for row in scores.values)


@pytest.mark.slow
def test_what_the_parts_are_not_computed_for_is_said():
    run = vaex.train("vamp_vae", "digits", components=5, **QUICK)
    scores = run.score(["rate_distortion"], examples=100)
    assert "total_correlation" not in scores.values[0] and "left out" in scores.protocol["parts of the rate"]
    summary = run.evaluate(eval_images=100, eval_samples=10, figures=False, progress=False)["members"][0]
    bound = -(scores.values[0]["rate"].mean + scores.values[0]["distortion"].mean)
    assert bound == pytest.approx(summary["elbo"], abs=5 * summary["elbo_standard_error"])


@pytest.mark.slow
def test_models_without_a_density_are_refused():
    with pytest.raises(UserError, match="rate_distortion: this run's objective defines no density"):
        vaex.train("autoencoder", "digits", **QUICK).score(["rate_distortion"])
