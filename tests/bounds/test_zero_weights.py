"""Weights that are zero, infinite or NaN: the documented values, and gradients of all other columns as if they were not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import bounds, divergences
from vaex.evaluation.likelihood import streaming_importance_bound

INF, NAN = np.inf, np.nan
FINITE = np.array([[-1.0, 0.5], [0.3, -2.0], [-0.7, 1.1], [0.2, 0.4]])  # [k, b], two columns
SPECIAL = {
    "all zero": [-INF, -INF, -INF, -INF],
    "one zero": [-INF, 0.4, -0.3, 0.9],
    "one alive": [-INF, -INF, -0.3, -INF],
    "one infinite": [0.1, INF, -0.3, 0.2],
    "two infinite": [INF, INF, -0.3, -INF],
    "one nan": [0.1, NAN, -0.3, 0.2],
}
GRID = np.array([0.0, 0.3, 1.0])


def mean_weight(w):
    return np.log(np.mean(np.exp(w)))


def shares(w):
    if np.isnan(w).any():
        return np.full(len(w), NAN)
    if w.max() == -INF:
        return np.zeros(len(w))
    return (w == INF) / np.sum(w == INF) if w.max() == INF else np.exp(w) / np.exp(w).sum()


def under(share, w):
    """Mean of w under shares, with 0 * inf = 0 by leaving entries without a share out."""
    if np.isnan(share).any():
        return NAN
    return np.sum(share[share > 0] * w[share > 0]) if share.any() else -INF


def ess(w):
    return NAN if np.isnan(w).any() else 1.0 / np.sum(shares(w) ** 2) if w.max() > -INF else 0.0


def renyi(w, alpha):
    """By the weights themselves, in NumPy's arithmetic of infinities."""
    return np.mean(w) if alpha == 1 else np.log(np.mean(np.exp(w) ** (1.0 - alpha))) / (1.0 - alpha)


def tvo(w, at):
    if np.isnan(w).any():
        return NAN
    tempered = [np.zeros(len(w)) if beta == 0 else beta * w for beta in at]
    return np.sum(np.diff(GRID) * [under(shares(row), w) for row in tempered])


def forward_kl(w):
    share = shares(w)
    if np.isnan(share).any() or not share.any():
        return NAN if np.isnan(share).any() else INF
    return np.sum(share[share > 0] * np.log(len(w) * share[share > 0]))


# name -> the function of [k, b], and the value of one column, which is defined by words where arithmetic gives 0/0
FUNCTIONS = {
    "importance": (bounds.importance_bound, mean_weight),
    "mean importance": (
        lambda w: bounds.mean_importance_bound(w.reshape(2, 2, -1)),
        lambda w: 0.5 * (mean_weight(w[:2]) + mean_weight(w[2:])),
    ),
    "combined": (
        lambda w: bounds.combined_importance_bound(w, mix=0.3),
        lambda w: 0.3 * np.mean(w) + 0.7 * mean_weight(w),
    ),
    "combined, no elbo": (lambda w: bounds.combined_importance_bound(w, mix=0.0), mean_weight),
    "combined, elbo": (lambda w: bounds.combined_importance_bound(w, mix=1.0), np.mean),
    "partial, decoder": (lambda w: bounds.partial_importance_bounds(w.reshape(2, 2, -1)).decoder, mean_weight),
    "renyi 0.5": (lambda w: bounds.renyi_bound(w, alpha=0.5), lambda w: renyi(w, 0.5)),
    "renyi 1": (lambda w: bounds.renyi_bound(w, alpha=1.0), lambda w: renyi(w, 1.0)),
    "renyi 2": (lambda w: bounds.renyi_bound(w, alpha=2.0), lambda w: renyi(w, 2.0)),
    "renyi -1": (lambda w: bounds.renyi_bound(w, alpha=-1.0), lambda w: renyi(w, -1.0)),
    "chi": (bounds.chi_upper_bound, lambda w: 0.5 * np.log(np.mean(np.exp(w) ** 2))),
    "evidence": (bounds.evidence_upper_bound, lambda w: under(shares(w), w)),
    "evidence, posterior": (lambda w: bounds.evidence_upper_bound(w, samples="posterior"), np.mean),
    "thermodynamic, lower": (
        lambda w: bounds.thermodynamic_bound(w, temperatures=GRID),
        lambda w: tvo(w, GRID[:-1]),
    ),
    "thermodynamic, upper": (
        lambda w: bounds.thermodynamic_bound(w, temperatures=GRID, side="upper"),
        lambda w: tvo(w, GRID[1:]),
    ),
    "effective sample size": (bounds.effective_sample_size, ess),
    "normalized weights": (bounds.normalized_weights, shares),
    "forward kl": (divergences.importance_forward_kl, forward_kl),
}


def columns(kind):
    return np.insert(FINITE, 1, SPECIAL[kind], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradient_of_every_column(name, kind):
    function, by_hand = FUNCTIONS[name]
    with jax.enable_x64(True), np.errstate(all="ignore"):
        w = columns(kind)
        value, pullback = jax.jit(lambda w: jax.vjp(function, w))(jnp.asarray(w))
        expected = np.stack([by_hand(column) for column in w.T], axis=-1)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-15)

        clean = jax.jit(jax.grad(lambda w: jnp.sum(jnp.sin(function(w)))))(jnp.asarray(FINITE))
        rest = jnp.asarray([True, False, True])
        masked = jax.jit(jax.grad(lambda w: jnp.sum(jnp.sin(jnp.where(rest, function(w), 0.0)))))(jnp.asarray(w))
        np.testing.assert_allclose(masked[:, [0, 2]], clean, rtol=1e-12)  # whatever the middle column holds
        (gradient,) = pullback(jnp.ones_like(value))
        if kind != "one nan":
            assert np.isfinite(gradient).all()
            np.testing.assert_array_equal(masked[:, 1], 0.0)
        if np.ndim(expected) == 1 and np.isinf(expected[1]) and name not in MEANS and kind != "one nan":
            np.testing.assert_array_equal(gradient[:, 1], 0.0)

        step = 1e-6
        for row, column in np.argwhere(np.isfinite(w)):  # central differences, where the value is finite
            if not np.isfinite(expected[..., column]).all():
                continue
            moved = [w + sign * step * (np.indices(w.shape) == [[[row]], [[column]]]).all(0) for sign in (1, -1)]
            up, down = (np.sum(by_hand(other[:, column])) for other in moved)
            np.testing.assert_allclose(gradient[row, column], (up - down) / (2 * step), atol=1e-8)


# means, and sums of which a part is finite
MEANS = ("combined", "combined, elbo", "mean importance", "renyi 1", "evidence, posterior", "thermodynamic, lower")


ORDERS = {
    "renyi": lambda w, a: bounds.renyi_bound(w, alpha=a),
    "combined": lambda w, a: bounds.combined_importance_bound(w, mix=a),
    "thermodynamic": lambda w, a: bounds.thermodynamic_bound(w, temperatures=a * GRID + (1 - a) * GRID**2),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("kind", [kind for kind in SPECIAL if kind != "one nan"])
@pytest.mark.parametrize("order", [0.4, 2.0])
def test_the_gradient_of_an_order_is_that_of_the_finite_columns(name, kind, order):
    function = ORDERS[name]
    with jax.enable_x64(True):

        def total(a, w):
            value = function(w, a)
            return jnp.sum(jnp.where(jnp.isfinite(value), value, 0.0))

        def without(a):
            value = function(jnp.asarray(columns(kind)), a)
            return total(a, columns(kind)[:, np.isfinite(value)])

        slope = jax.grad(total)(order, jnp.asarray(columns(kind)))
        np.testing.assert_allclose(slope, (without(order + 1e-5) - without(order - 1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_a_streamed_bound_is_that_of_all_samples_at_once():
    """Over chunks of three, the last of which has two samples too many; of the columns one is impossible, one half so."""

    def draw(key, k):
        possible = jax.random.bernoulli(key, jnp.array([0.0, 0.3, 1.0]), (k, 3))
        return jnp.where(possible, jax.random.normal(key, (k, 3)), -jnp.inf)

    key = jax.random.key(0)
    found = streaming_importance_bound(draw, key, 7, samples_per_chunk=3)
    together = jnp.concatenate([draw(jax.random.fold_in(key, index), 3) for index in range(3)])[:7]
    np.testing.assert_allclose(found, bounds.importance_bound(together), rtol=1e-6)
    assert found[0] == -np.inf and np.isfinite(found[1:]).all()
