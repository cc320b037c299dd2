"""A stage that computes its state from the training examples: the mixture of the codes of a regularized autoencoder."""

import jax
import numpy as np
import pytest

import vaex
from vaex.errors import UserError
from vaex.models.autoencoders import _code_density as density
from vaex.schedules import ramp

pytestmark = pytest.mark.slow
KEY = jax.random.key(0)

EXAMPLES = vaex.Dataset.from_arrays(
    np.random.default_rng(2).random((80, 4, 4), np.float32),
    x_validation=np.random.default_rng(3).random((10, 4, 4), np.float32),
    x_test=np.random.default_rng(4).random((10, 4, 4), np.float32),
)
SMALL = {
    "latent_dim": 2,
    "hidden": (8,),
    "batch_size": 16,
    "progress": False,
    "components": 1,
    "likelihood_scale": "fixed",
}


@pytest.fixture(scope="module")
def run():
    return vaex.train("regularized_autoencoder", EXAMPLES, steps=20, seeds=[0, 1], sigma=ramp(1.0, 0.5, 20), **SMALL)


def test_each_member_has_the_moments_of_its_codes_of_all_training_examples(run):
    for member in run:
        codes = np.asarray(member.encode(EXAMPLES.splits["train"]["x"]).mean, np.float64)
        fitted = member.variables.state["density"]
        np.testing.assert_allclose(fitted["means"][0], codes.mean(0), rtol=1e-4, atol=1e-6)
        covariance = fitted["scale_trils"][0] @ fitted["scale_trils"][0].T
        np.testing.assert_allclose(covariance, np.cov(codes.T, bias=True), rtol=1e-3)
    assert not np.allclose(*(member.variables.state["density"]["means"] for member in run))


def test_a_stage_without_steps_has_the_hyperparameters_of_the_last_step_before(run):
    assert [member.step for member in run] == [20, 20]
    assert [float(member.hparams.sigma) for member in run] == [0.5, 0.5]


def test_samples_are_decoded_from_the_density(run):
    member = run[0]
    variables, d = member.variables, density.mixture(member.variables)
    expected = member.decode(d.sample(KEY, (5,))).mean
    assert len({float(value) for value in d.sample(KEY, (5,))[:, 0]}) == 5
    np.testing.assert_allclose(member.recipe.model.sample(KEY, variables, member.hparams, 5).mean, expected, rtol=1e-6)


def test_what_was_fitted_is_kept_with_the_run_and_members_equal_solo_runs(run, tmp_path, monkeypatch):
    alone = vaex.train(
        "regularized_autoencoder", EXAMPLES, steps=20, seeds=1, sigma=ramp(1.0, 0.5, 20), out=tmp_path / "run", **SMALL
    )
    for name, values in alone[0].variables.state["density"].items():
        np.testing.assert_allclose(values, run[1].variables.state["density"][name], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(density, "fit_mixture", None)  # not called again
    for again in (vaex.load(tmp_path / "run"), alone.continue_to(20)):
        jax.tree.map(np.testing.assert_array_equal, again[0].variables, alone[0].variables)


def test_the_best_autoencoder_is_the_one_whose_codes_are_fitted(tmp_path):
    best = vaex.train(
        "regularized_autoencoder", EXAMPLES, steps=20, validate_every=5, keep="best:reconstruction", learning_rate=0.5,
        out=tmp_path / "run", **SMALL,
    )  # fmt: skip
    codes = np.asarray(best[0].encode(EXAMPLES.splits["train"]["x"]).mean, np.float64)
    np.testing.assert_allclose(best[0].variables.state["density"]["means"][0], codes.mean(0), rtol=1e-3, atol=1e-5)
    again = vaex.load(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, again[0].variables, best[0].variables)
    trained = jax.tree.leaves(best[0].variables.state["params"])
    assert best.evaluate(figures=False)["parameters"] == sum(leaf.size for leaf in trained)


def test_steps_of_a_stage_that_takes_none_are_refused(run):
    with pytest.raises(UserError, match=r"--density_steps=3: the stage takes 0 steps"):
        run.continue_to(20, EXAMPLES, density_steps=3)
