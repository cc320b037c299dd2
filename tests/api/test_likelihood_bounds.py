"""Likelihoods of runs from both sides."""

import numpy as np
import pytest

import vaex
from vaex.errors import UserError

QUICK = {"steps": 3, "hidden": 8, "latent_dim": 2, "progress": False}
SMALL = {
    "images": 6,
    "importance_samples": 500,
    "temperatures": 150,
    "chains": 8,
    "leapfrog_steps": 5,
    "progress": False,
}


@pytest.fixture(scope="module")
def run():
    return vaex.train("vae", "digits", **QUICK)


@pytest.mark.slow
def test_bounds_come_with_their_protocol(run):
    scores = run.score(["likelihood"], **SMALL)
    (row,) = scores.values
    assert len(row["log_likelihood"].values) == 6 and row["annealed_log_likelihood"].standard_error > 0
    gap = row["simulated_upper"].values - row["simulated_lower"].values
    np.testing.assert_allclose(row["sandwich_gap"].values, gap, rtol=1e-4, atol=1e-3)
    assert 1 <= row["effective_sample_size"].mean <= 500 and 1 <= row["annealed_effective_sample_size"].mean <= 8
    assert "density_fit_log_likelihood" in row and "sandwich_gap" in scores.table()
    assert "importance bound, K = 500" in scores.protocol["log_likelihood"] and "8 chains of 150" in "".join(
        scores.notes()
    )
    # of the same examples: the annealed bound is of the same quantity
    annealed = row["annealed_log_likelihood"].values
    np.testing.assert_allclose(row["density_fit_log_likelihood"].values, annealed, atol=1.5)
    np.testing.assert_allclose(row["log_likelihood"].values, annealed, atol=2.5)  # 7 effective samples of 500


@pytest.mark.slow
def test_members_with_one_decoder_share_a_bound(run):
    kept = "decoder,likelihood"
    members = vaex.train("vae", "digits", seeds=range(2), init_from=run, init_only=kept, freeze=kept, **QUICK)
    rows = members.score(["likelihood"], **SMALL).values
    shared = [row["several_encoders_log_likelihood"].mean for row in rows]
    assert shared[0] == shared[1] and rows[0]["several_encoders_elbo"].mean < shared[0]
    apart = vaex.train("vae", "digits", seeds=range(2), **QUICK).score(["likelihood"], **SMALL)
    assert "several_encoders_elbo" not in apart.values[0] and "--freeze" in apart.protocol["several_encoders"]


@pytest.mark.slow
def test_models_without_a_density_and_numbers_below_one_are_refused():
    autoencoder = vaex.train("autoencoder", "digits", **QUICK)
    with pytest.raises(UserError, match="defines no density"):
        autoencoder.score(["likelihood"], **SMALL)
    with pytest.raises(UserError, match="likelihood: chains=0, expected at least 1"):
        autoencoder.score(["likelihood"], **{**SMALL, "chains": 0})
    with pytest.raises(UserError, match="score: 'chain' is no choice; did you mean chains"):
        autoencoder.score(["likelihood"], chain=3)
