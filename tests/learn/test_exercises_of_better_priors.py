"""Solutions of chapter 7, better priors, flows, hierarchies."""

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex import flows
from vaex.distributions import Mixture, Normal


def test_1_the_aggregate_posterior_is_the_best_prior():
    """E_x E_q(z|x) log p(z) = -H(q(z)) - KL(q(z) || p(z)). Means N(0, 0.8²) and variance 0.36: q(z) = N(0, 1)."""
    means = 0.8 * jax.random.normal(jax.random.key(0), (4000, 1))

    def average(scale):
        return jnp.mean(vaex.kl(Normal(means, 0.6), Normal(jnp.zeros(1), scale)))

    scales = jnp.linspace(0.6, 1.6, 101)
    averages = jax.vmap(average)(scales)
    assert abs(scales[jnp.argmin(averages)] - 1.0) < 0.03
    loss = average(1.4) - average(1.0)
    np.testing.assert_allclose(loss, vaex.kl(Normal(jnp.zeros(1), 1.0), Normal(jnp.zeros(1), 1.4)), rtol=0.05)


def test_2_the_jacobian_of_a_coupling_is_triangular():
    flow = flows.AffineCoupling(4, hidden=(8,))
    params = jax.tree.map(lambda a: a + 0.3, flow.init(jax.random.key(0)))
    z = jax.random.normal(jax.random.key(1), (4,))
    _, log_det = flow.forward(params, z)
    jacobian = jax.jacobian(lambda z: flow.forward(params, z)[0])(z)
    np.testing.assert_allclose(log_det, jnp.linalg.slogdet(jacobian)[1], rtol=1e-4)
    assert abs(float(log_det)) > 0.05


def test_3_all_posteriors_for_a_prior_cost_log_n():
    """p(z) >= q(z|x_n) / N, so KL(q(z|x_n) || p) <= log N; where no other component reaches, p(z) = q(z|x_n) / N."""
    for distance, expected in ((100.0, np.log(5)), (0.0, 0.0)):
        posteriors = Normal(distance * jnp.arange(5.0)[:, None], 1.0)
        prior = Mixture(jnp.zeros(5), posteriors)
        z = posteriors.sample(jax.random.key(0), (1000,))
        kl = jnp.mean(posteriors.log_prob(z) - prior.log_prob(z), axis=0)
        np.testing.assert_allclose(kl, expected, atol=1e-3)
