"""Disentanglement scores of codes for which the published definitions give numbers by hand."""

import itertools
import math

import numpy as np
import pytest

from vaex.errors import UserError
from vaex.evaluation import disentanglement as dis

SIZES = (2, 4, 4)
GRID = np.array(list(itertools.product(*(range(size) for size in SIZES))))
FACTORS = np.tile(GRID, (30, 1))  # each combination 30 times: factors are exactly independent
NOISE = np.random.default_rng(0).normal(size=(len(FACTORS), 3))
HALF_TURN = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
CODES = {
    "perfect": FACTORS.astype(float),
    "permuted": np.stack([-3.0 * FACTORS[:, 2], 0.6 * FACTORS[:, 0] + 7.0, FACTORS[:, 1]], axis=1),
    "duplicated": np.concatenate([FACTORS, FACTORS], axis=1).astype(float),
    "entangled": np.repeat(FACTORS @ np.array([[1.0], [2.0], [8.0]]), 3, axis=1),  # every latent tells every factor
    "noise": NOISE,
    "rotated": (FACTORS - FACTORS.mean(0)) / FACTORS.std(0) @ HALF_TURN,
    "with two that are constant": np.concatenate([FACTORS, np.ones((len(FACTORS), 2))], axis=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["perfect", "permuted"])
def test_one_latent_for_each_factor_has_the_highest_score(name):
    scores = dis.all_scores(CODES[name], FACTORS)
    sap = np.mean([1 - 1 / size for size in SIZES])  # the second best latent is right by chance
    assert scores.pop("sap") <= sap + 0.1
    assert scores == {key: pytest.approx(1.0, abs=1e-6) for key in scores}


def test_constant_latents_count_where_the_definition_counts_them():
    scores = dis.all_scores(CODES["with two that are constant"], FACTORS)
    assert scores["modularity"] == pytest.approx(3 / 5)  # mean over latents
    for name in ("beta_vae", "factor_vae", "mig", "dci_disentanglement", "dci_completeness", "explicitness", "irs"):
        assert scores[name] == pytest.approx(1.0, abs=1e-6), name


def test_a_factor_told_by_two_latents_has_no_gap_and_is_complete_by_half_a_latent():
    codes = CODES["duplicated"]
    assert dis.mutual_information_gap(codes, FACTORS).score == 0.0
    assert dis.separated_attribute_predictability(codes, FACTORS).score == 0.0
    assert dis.modularity(codes, FACTORS).score == pytest.approx(1.0)
    scores = dis.dci(codes, FACTORS)
    assert scores.disentanglement == pytest.approx(1.0, abs=1e-6) and scores.completeness < 0.8
    importance = np.concatenate([np.eye(3), np.eye(3)])
    assert dis.importance_scores(importance) == pytest.approx((1.0, 1 - math.log(2) / math.log(6)))


def test_latents_that_tell_all_factors_are_explicit_and_nothing_else():
    codes = CODES["entangled"]  # 1, 2 and 8 times the factors: each sum is of one combination
    information = dis.mutual_information(codes, FACTORS, bins=200)
    np.testing.assert_allclose(information, np.tile(np.log(SIZES), (3, 1)), rtol=1e-6)
    assert dis.mutual_information_gap(codes, FACTORS, bins=200).score == pytest.approx(0.0, abs=1e-9)
    squares = np.log(SIZES) ** 2
    expected = 1 - (squares.sum() - squares.max()) / (2 * squares.max())
    assert dis.modularity(codes, FACTORS, bins=200).score == pytest.approx(expected)


def test_noise_is_at_chance():
    scores = dis.all_scores(NOISE, FACTORS)
    assert scores["mig"] < 0.02 and scores["sap"] < 0.05 and scores["explicitness"] < 0.1
    assert scores["beta_vae"] < 0.45 and scores["factor_vae"] < 0.45  # chance is 1/3
    assert scores["dci_disentanglement"] < 0.15
    farthest = np.abs(NOISE - NOISE.mean(0)).max(0)
    assert scores["irs"] == pytest.approx(
        1 - 2.576 * 3 / farthest.sum(), abs=0.06
    )  # 0.99 quantile of a normal's distance


def test_a_rotation_of_two_latents_lowers_every_score_of_single_latents_and_not_explicitness():
    perfect, rotated = (dis.all_scores(CODES[name], FACTORS) for name in ("perfect", "rotated"))
    for name in ("mig", "sap", "modularity", "irs", "dci_disentanglement", "dci_completeness"):
        assert rotated[name] < perfect[name] - 0.05, name
    assert rotated["explicitness"] == pytest.approx(1.0, abs=1e-3)


def test_information_is_scikit_learns():
    from sklearn.metrics import mutual_info_score

    codes = NOISE + 0.5 * FACTORS
    binned = dis.discretize(codes)
    expected = [[mutual_info_score(b, v) for v in FACTORS.T] for b in binned.T]
    np.testing.assert_allclose(dis.mutual_information(codes, FACTORS), expected, rtol=1e-9)
    edges = [np.histogram(code, 20)[1] for code in codes.T]
    for code, edge, numbers in zip(codes.T, edges, binned.T, strict=True):
        np.testing.assert_array_equal(numbers, np.minimum(np.searchsorted(edge, code, "right") - 1, 19))


def test_robustness_by_hand():
    """One latent in two factors of two values: z = v0 + 2 v1 moves by 2 or 1 while the other is fixed, and by 3 in all."""
    factors = np.array(list(itertools.product([0, 1], [0, 1])))
    result = dis.interventional_robustness(factors @ np.array([[1.0], [2.0]]), factors, quantile=1.0)
    np.testing.assert_allclose(result.robustness, [[1 - 1.0 / 1.5, 1 - 0.5 / 1.5]])
    assert result.score == pytest.approx(2 / 3)


def test_factors_need_fill_no_grid_and_may_have_any_numbers():
    kept = np.flatnonzero((FACTORS[:, 0] == 0) | (FACTORS[:, 1] > 1))
    codes, factors = CODES["perfect"][kept], 5 * FACTORS[kept] - 7
    scores = dis.all_scores(codes, factors, scores=["mig", "factor_vae", "beta_vae", "dci_disentanglement"])
    information = dis.mutual_information(codes, factors)
    per_factor = [np.diff(np.sort(column)[-2:])[0] for column in information.T] / dis.entropies(factors)
    assert scores["mig"] == pytest.approx(per_factor.mean()) and scores["mig"] < 1.0  # two factors depend
    assert min(scores["factor_vae"], scores["beta_vae"], scores["dci_disentanglement"]) > 0.85


def test_ranking_is_by_spearmans_correlation():
    from scipy.stats import spearmanr

    one, two = np.random.default_rng(4).integers(0, 5, size=(2, 200, 2)).astype(float)  # with ties
    two[:, 0] += one[:, 1]
    correlation = np.abs([[spearmanr(a, b)[0] for b in two.T] for a in one.T])
    expected = sum((m.max(0) ** 2 / m.sum(0)).sum() for m in (correlation, correlation.T)) / 4
    np.testing.assert_allclose(dis.unsupervised_disentanglement_ranking([one, two]), expected, rtol=1e-12)


def test_models_that_agree_rank_before_those_that_do_not():
    code = np.random.default_rng(1).normal(size=(2000, 3))
    turned = code @ np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    means = [code, -code[:, [2, 0, 1]], np.exp(code), turned]
    ranking = dis.unsupervised_disentanglement_ranking(means)
    assert ranking[:3].min() > 0.85 > ranking[3] + 0.1
    wide = [np.concatenate([mean, np.random.default_rng(3).normal(size=(2000, 1))], axis=1) for mean in means[:2]]
    variances = [np.concatenate([np.full((2000, 3), 0.01), np.ones((2000, 1))], axis=1)] * 2
    small = [np.concatenate([mean[:, :3], 0.01 * mean[:, 3:]], axis=1) for mean in wide]
    assert (
        dis.unsupervised_disentanglement_ranking(small, variances).min() > 0.8
    )  # the uninformative latent does not count


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (np.ones((4, 2)), np.ones((3, 1), int), r"factors has shape \(3, 1\), expected \[4, f\]"),
        (np.ones(4), np.ones((4, 1), int), r"codes has shape \(4,\)"),
        (np.full((4, 2), np.nan), FACTORS[:4], "NaN or infinity"),
        (np.ones((4, 2)), np.eye(4) * 0.5, "expected integers; put continuous factors in bins"),
        (np.ones((4, 2)), np.array([[0, 1], [1, 1], [0, 1], [1, 1]]), r"factors \[1\] have a single value"),
    ],
)
def test_invalid_input_is_refused(codes, factors, message):
    with pytest.raises(ValueError, match=message):
        dis.mutual_information_gap(codes, factors)


def test_unknown_scores_are_refused():
    with pytest.raises(UserError, match="unknown score 'mog'; there are beta_vae"):
        dis.all_scores(CODES["perfect"], FACTORS, scores=["mog"])
    with pytest.raises(ValueError, match="predictor='trees'"):
        dis.dci(CODES["perfect"], FACTORS, predictor="trees")


def test_every_argument_changes_something():
    codes = NOISE + 0.5 * FACTORS
    gap = dis.mutual_information_gap
    assert gap(codes, FACTORS, bins=5).score != gap(codes, FACTORS).score
    for function in (dis.beta_vae_score, dis.factor_vae_score):
        base = function(codes, FACTORS, points=200)
        changes = [{"seed": 1}, {"points": 210}, {"pairs" if function is dis.beta_vae_score else "group": 3}]
        assert all(function(codes, FACTORS, **{"points": 200} | change) != base for change in changes)
    assert dis.factor_vae_score(codes, FACTORS, inactive=100.0) == pytest.approx(1 / 3)
    assert len({dis.dci(codes, FACTORS, predictor=name).disentanglement for name in ("forest", "lasso")}) == 2
    sap = dis.separated_attribute_predictability
    assert (
        len(
            {
                sap(codes, FACTORS).score,
                sap(codes, FACTORS, seed=1).score,
                sap(codes, FACTORS, regularisation=1e-6).score,
            }
        )
        == 3
    )
    assert dis.explicitness(codes, FACTORS).score != dis.explicitness(codes, FACTORS, seed=1).score
    robust = dis.interventional_robustness
    assert robust(codes, FACTORS).score != robust(codes, FACTORS, quantile=0.5).score
