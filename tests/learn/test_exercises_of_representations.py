"""Solutions of chapter 5, what the latents know."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import MultivariateNormal
from vaex.evaluation.aggregate_posterior import aggregate_kl
from vaex.evaluation.disentanglement import all_scores

ANGLE = np.pi / 4
ROTATION = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])


def test_1_a_rotation_ruins_the_scores_of_axes_and_leaves_the_information():
    factors = np.array(list(itertools.product(range(6), range(6))) * 20)
    codes = (factors - 2.5) / 2 + 0.02 * np.random.default_rng(0).normal(size=factors.shape)
    names = ("mig", "dci_disentanglement", "dci_informativeness")
    before, after = (all_scores(z, factors, scores=names) for z in (codes, codes @ ROTATION.T))
    assert before["mig"] > 0.9 and before["dci_disentanglement"] > 0.9
    assert after["mig"] < 0.2 and after["dci_disentanglement"] < 0.3
    assert after["dci_informativeness"] > 0.8


def test_2_rotated_codes_are_the_same_model_of_the_data():
    """p(x) = int p(x|R'z') N(z'; 0, I) dz', and N(0, I) is that of z = R'z'. For a decoder W z, W R' R W' = W W'."""
    weight = jax.random.normal(jax.random.key(0), (5, 2))
    x = jax.random.normal(jax.random.key(1), (5,))

    def evidence(w):
        return MultivariateNormal(jnp.zeros(5), scale_tril=jnp.linalg.cholesky(w @ w.T + 0.1 * jnp.eye(5))).log_prob(x)

    np.testing.assert_allclose(evidence(weight @ ROTATION.T), evidence(weight), rtol=1e-4)


def test_3_moments_of_diagonal_posteriors_say_nothing_of_their_mixture():
    """q(z) = N(0, I) factorises. Means (-m, -m) and (m, m) with variances 1 - m² have mean 0 and variance 1 on average."""
    m = 0.97
    parts = aggregate_kl(
        jax.random.key(0), np.array([[-m, -m], [m, m]]), np.full((2, 2), 0.5 * np.log(1 - m**2)), 20_000
    )
    assert parts.total_correlation.mean > 0.5
    rng = np.random.default_rng(0)
    means = rng.normal(size=(2000, 2)) * 0.8  # and variances 1 - 0.64: their mixture is nearly N(0, I)
    parts = aggregate_kl(jax.random.key(0), means, np.full((2000, 2), 0.5 * np.log(0.36)), 2000)
    assert abs(parts.total_correlation.mean) < 0.03
