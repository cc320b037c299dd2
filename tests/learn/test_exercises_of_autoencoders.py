"""Solutions of chapter 1, from PCA to autoencoders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits


@pytest.mark.parametrize("d", [1, 4, 16])
def test_1_what_a_projection_loses_are_the_discarded_eigenvalues(d):
    """For fixed V the best W is a regression; the loss is then tr C - tr((V C V')^-1 V C C V'), largest gain for V the leading
    eigenvectors: tr C minus the sum of their eigenvalues.
    """
    x = load_digits().data / 16
    centred = x - x.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(x))
    leading = vectors[:, -d:]
    loss = np.mean(np.sum((centred - centred @ leading @ leading.T) ** 2, axis=1))
    np.testing.assert_allclose(loss, values[:-d].sum(), rtol=1e-10)
    other = np.linalg.qr(np.random.default_rng(0).normal(size=(64, d)))[0]
    assert np.mean(np.sum((centred - centred @ other @ other.T) ** 2, axis=1)) > loss


def test_2_the_conditional_mean_is_a_step_along_the_score():
    """N(0, s²): the noisy density is N(0, s² + n²), its score -y / (s² + n²), and y - n² y / (s² + n²) = y s² / (s² + n²)."""
    y, noise = jnp.linspace(-2.0, 2.0, 9), 0.5

    def normal(y):
        return -0.5 * y**2 / (4.0 + noise**2)

    np.testing.assert_allclose(y + noise**2 * jax.vmap(jax.grad(normal))(y), y * 4.0 / (4.0 + noise**2), rtol=1e-5)

    # two points at -1 and 1: the conditional mean is tanh(y / n²)
    def points(y):
        return jnp.logaddexp(-0.5 * (y - 1) ** 2 / noise**2, -0.5 * (y + 1) ** 2 / noise**2)

    np.testing.assert_allclose(y + noise**2 * jax.vmap(jax.grad(points))(y), jnp.tanh(y / noise**2), atol=1e-5)


def test_3_noise_adds_the_squared_jacobian():
    """g(f(x + s e)) = U U' x + s U U' e, so E|...|² = |U U' x - x|² + s² |U U'|_F² = ... + s² |U'|_F²: the contractive penalty."""
    key, scale = jax.random.key(0), 0.1
    basis = jnp.linalg.qr(jax.random.normal(key, (6, 2)))[0]
    x = jax.random.normal(jax.random.fold_in(key, 1), (6,))
    noise = jax.random.normal(jax.random.fold_in(key, 2), (100_000, 6))
    losses = jnp.sum(((x + scale * noise) @ basis @ basis.T - x) ** 2, axis=1)
    expected = jnp.sum((basis @ basis.T @ x - x) ** 2) + scale**2 * jnp.sum(basis**2)
    assert abs(losses.mean() - expected) < 4 * losses.std() / len(losses) ** 0.5
