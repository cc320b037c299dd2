"""Latent variables of codes: names, KL and activity, against closed forms and SciPy."""

import numpy as np
import pytest
import scipy.stats as st

from vaex.core import Latents
from vaex.evaluation.latents import (
    LatentKind,
    active_units,
    count_active,
    kl_per_latent,
    latent_variables,
    order_by_kl,
    register_kind,
)
from vaex.evaluation.traversals import traversal_paths

MIXED = (Latents("normal", 2), Latents("categorical", 3), Latents("categorical", 2))
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(50, 5))
PROBABILITIES = np.concatenate(
    [np.exp(g) / np.exp(g).sum(-1, keepdims=True) for g in (LOGITS[:, :3], LOGITS[:, 3:])], axis=-1
)
MEAN = np.concatenate([RNG.normal(size=(50, 2)), PROBABILITIES], axis=-1)
VARIANCE = np.concatenate([np.full((50, 2), 0.3), PROBABILITIES * (1 - PROBABILITIES)], axis=-1)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_active_units_have_the_exact_variance_of_the_means(offset):
    signs = np.array([1.0, -1.0] * 50)[:, None]
    scales = np.array([2.0, 0.1, 0.125, 0.0, 0.099])
    result = active_units(offset + signs * scales, threshold=0.125**2)
    np.testing.assert_allclose(result.variances, scales**2, atol=1e-12)
    assert active_units(signs * scales).active.tolist() == [True, True, True, False, False]
    assert active_units(signs * scales, threshold=0.125**2).active.tolist() == [True, False, False, False, False]


def test_active_units_of_a_linear_gaussian_model():
    """q(z|x) of p(x|z) = N(w z, s^2) has mean w x / (w^2 + s^2), so Var_x E[z|x] = w^2 / (w^2 + s^2)."""
    weight, noise, n = np.array([3.0, 1.0, 0.02]), 1.0, 40_000
    x = np.random.default_rng(0).normal(size=(n, 3)) * np.sqrt(weight**2 + noise**2)
    result = active_units(x * weight / (weight**2 + noise**2))
    exact = weight**2 / (weight**2 + noise**2)
    standard_error = exact * np.sqrt(2.0 / n)
    assert (np.abs(result.variances - exact) < 4.0 * standard_error).all()
    assert result.active.tolist() == [True, True, False]


def test_order_is_falling_stable_and_puts_nan_last():
    assert order_by_kl([0.5, np.nan, 3.0, 0.5, 0.0]).tolist() == [2, 0, 3, 4, 1]


def test_variables_are_named_by_what_they_are():
    assert [variable.name for variable in latent_variables(MIXED, 7)] == ["z0", "z1", "c0", "c1"]
    assert [variable.name for variable in latent_variables((), 3)] == ["z0", "z1", "z2"]
    assert [variable.kind for variable in latent_variables((Latents("free", 2),), 2)] == ["free", "free"]
    assert latent_variables((Latents("sphere", 4),), 4)[0][:2] == ("sphere", "sphere")
    with pytest.raises(ValueError, match=r"blocks of \[2, 3, 2\] entries, expected 8"):
        latent_variables(MIXED, 8)


def test_kl_per_latent_is_exact_where_it_is_known():
    kl = kl_per_latent(latent_variables(MIXED, 7), MEAN, VARIANCE)
    normal = 0.5 * (MEAN[:, :2] ** 2 + 0.3 - 1 - np.log(0.3)).mean(0)
    entropies = [np.mean([st.entropy(row) for row in PROBABILITIES[:, cut]]) for cut in (slice(3), slice(3, 5))]
    np.testing.assert_allclose(kl, [*normal, np.log(3) - entropies[0], np.log(2) - entropies[1]])
    certain = kl_per_latent(latent_variables((Latents("categorical", 3),), 3), np.eye(3), np.zeros((3, 3)))
    np.testing.assert_allclose(certain, [np.log(3)])
    for kind in ("free", "sphere"):
        assert kl_per_latent(latent_variables((Latents("normal", 5), Latents(kind, 2)), 7), MEAN, VARIANCE) is None
    assert kl_per_latent(latent_variables((), 7), MEAN, np.zeros_like(VARIANCE)) is None  # points have no density


def test_a_categorical_variable_is_one_active_latent():
    means = np.tile([0.5, 0.1, 0.2, 0.2, 0.6, 0.5, 0.5], (50, 1))
    assert count_active(latent_variables(MIXED, 7), means, VARIANCE) == 0
    means[::2, 1:5] = [2.0, 0.6, 0.2, 0.2]
    assert count_active(latent_variables(MIXED, 7), means, VARIANCE) == 2
    sphere = latent_variables((Latents("sphere", 7),), 7)
    assert count_active(sphere, means, VARIANCE) == 3  # coordinates: z1 and two probabilities


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_codes_without_a_prior_are_active_whatever_their_scale(scale):
    """Activations of a sparse autoencoder lie near 0.1, and their variance below the threshold of a standard normal prior."""
    spread = np.array([1.0, 1.2, 0.8, 0.02, 0.0])  # variances: 1, 1.44, 0.64, 0.0004, 0; their mean 0.62
    codes = scale * (0.1 + 0.05 * spread * RNG.choice([-1.0, 1.0], (200, 5)))
    free = latent_variables((Latents("free", 5),), 5)
    assert count_active(free, codes, np.zeros_like(codes)) == 3
    # with a posterior of some width the threshold is the paper's
    assert count_active(free, codes, np.ones_like(codes)) == {1e-4: 0, 1.0: 0, 1e4: 4}[scale]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: active_units(np.zeros((1, 3))), "n >= 2"),
        (lambda: active_units(np.zeros(3)), r"expected \[n, d\]"),
        (lambda: active_units([[0.0], [np.nan]]), "NaN or infinity"),
        (lambda: order_by_kl(np.zeros((2, 3))), r"expected \[d\]"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_kind_of_ones_own_is_named_counted_measured_and_traversed():
    angle = LatentKind(
        path=lambda means: np.stack([np.cos(np.arange(4)), np.sin(np.arange(4))], axis=-1),
        kl=lambda mean, variance: float(np.mean(1.0 - np.sum(mean**2, axis=-1))),
        active=lambda mean: bool(np.ptp(mean) > 1.0),
    )
    register_kind("angle", angle)
    variables = latent_variables((Latents("angle", 2), Latents("normal", 1), Latents("angle", 2)), 5)
    assert [(v.name, v.start, v.stop) for v in variables] == [("angle0", 0, 2), ("z0", 2, 3), ("angle1", 3, 5)]
    mean, variance = np.zeros((3, 5)), np.ones((3, 5))
    mean[:, 0] = [-0.9, 0.0, 0.9]
    assert count_active(variables, mean, variance) == 1
    np.testing.assert_allclose(kl_per_latent(variables, mean, variance), [1.0 - 2 * 0.81 / 3, 0.0, 1.0])
    paths = traversal_paths(variables, mean, variance, kl=[3.0, 2.0, 1.0])
    assert paths.names == ("angle0", "z0", "angle1")
    np.testing.assert_allclose(paths.codes[0, :4, :2], angle.path(mean), atol=1e-6)
    assert np.all(paths.codes[0, :4, 2:] == 0) and np.isnan(paths.codes[0, 4:]).all()


def test_kinds_that_are_built_in_or_unknown_are_refused():
    with pytest.raises(ValueError, match="'sphere' is built in"):
        register_kind("sphere", LatentKind(lambda means: means))
    with pytest.raises(ValueError, match="did you mean sphere"):
        latent_variables((Latents("spheer", 2),), 2)
    register_kind("plain", LatentKind(lambda means: means[:1]))
    plain = latent_variables((Latents("plain", 2),), 2)
    assert kl_per_latent(plain, np.zeros((2, 2)), np.ones((2, 2))) is None
    assert count_active(plain, np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros((2, 2))) == 1
