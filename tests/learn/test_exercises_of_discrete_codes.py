"""Solutions of chapter 8, discrete codes."""

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex import estimators, quantizers
from vaex.distributions import Categorical

CODEBOOK = jnp.array([[0.0], [1.0]])


def through(z):
    return quantizers.straight_through(z, quantizers.lookup(CODEBOOK, quantizers.nearest_code(CODEBOOK, z)))


def test_1_the_gradient_is_that_at_the_code():
    """d loss(z + sg[c - z]) / dz = loss'(c): exact where the slope is the same everywhere. For (value - 0.97)² and z = 0.96 the
    slope at z is negative, the one at the code 1 positive: z is moved away from the minimum.
    """
    z = jnp.array([0.3])
    np.testing.assert_allclose(jax.grad(lambda z: 2.0 * through(z)[0])(z), [2.0])

    def loss(value):
        return (value[0] - 0.97) ** 2

    z = jnp.array([0.96])
    assert jax.grad(loss)(z)[0] < 0 < jax.grad(lambda z: loss(through(z)))(z)[0]


def test_2_a_point_mass_costs_log_k_under_a_uniform_prior():
    """KL(point mass at c || p) = -log p(c); its own entropy is 0. For m codes of k, uniform: m log k, for every c."""
    k = 16
    sharp = Categorical(1e4 * jax.nn.one_hot(jnp.array([3, 7]), k))
    np.testing.assert_allclose(jnp.sum(vaex.kl(sharp, Categorical(jnp.zeros((2, k))))), 2 * np.log(k), rtol=1e-5)


def test_3_a_baseline_of_the_other_samples_leaves_the_mean_alone():
    """E[grad log q(z_k) b(z_-k)] = E[grad log q(z_k)] E[b] = 0."""
    values, logits = jnp.array([1.0, -2.0, 0.5]) + 1000.0, jnp.array([[0.3, 0.0, -0.4]])
    exact = jax.grad(lambda l: jnp.sum(jax.nn.softmax(l) * values) + Categorical(l).entropy().sum())(logits)

    def estimate(l, key):
        return jnp.sum(estimators.leave_one_out(key, Categorical(l), lambda z: jnp.sum(values[z], -1), 4))

    measured = estimators.gradient_statistics(
        jax.random.key(0), lambda key: jax.grad(estimate)(logits, key), 20_000, exact=exact
    )
    assert jnp.all(jnp.abs(measured.bias) < 4.5 * measured.standard_error)
