"""Flows as posterior and prior: densities by the Jacobian, moments, what the encoder reaches, and configs that are refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import BATCH, KEY, Fresh
from scipy.stats import norm

from vaex import divergences
from vaex.distributions import Normal
from vaex.errors import UserError
from vaex.models.autoencoders import vae
from vaex.models.priors import flow_vae

POSTERIORS = ("iaf", "householder", "sylvester", "planar")
NONE = {"posterior_flow": "none", "prior_flow": "none"}


@functools.cache
def bent(**changes):
    """A flow VAE of three latents whose parameters are far from the identity."""
    return Fresh(flow_vae, **{**NONE, "latent_dim": 3, "sylvester_units": 2, **changes}).jitter()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "base"), [("iaf", "full"), *((kind, "diagonal") for kind in POSTERIORS[1:])])
def test_posterior_density_is_the_bases_over_the_jacobian(kind, base):
    fresh = bent(posterior_flow=kind, posterior=base)
    q = fresh.encode()
    z, log_q = q.sample_and_log_prob(KEY, (1,))
    start = q.base.sample(KEY, (1,))[0]
    per_example = jax.tree.map(lambda leaf: leaf if leaf.shape[0] == BATCH else jnp.stack([leaf] * BATCH), q.params)

    @jax.jit
    @jax.vmap
    def moved(params, point):
        return q.flow.forward(params, point)[0], jax.jacfwd(lambda p: q.flow.forward(params, p)[0])(point)

    value, jacobian = moved(per_example, start)
    np.testing.assert_allclose(value, z[0], rtol=1e-4, atol=1e-4)
    expected = np.asarray(q.base.log_prob(start)) - np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
    np.testing.assert_allclose(log_q[0], expected, rtol=1e-3, atol=1e-3)
    weights = fresh.log_px(z)[0] + norm.logpdf(np.asarray(z[0])).sum(-1) - expected
    np.testing.assert_allclose(fresh.log_weights(1)[0], weights, rtol=1e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["real_nvp", "spline"])
def test_prior_density_is_the_normals_over_the_jacobian(kind):
    fresh = bent(prior_flow=kind)
    z = fresh.encode().sample(KEY, (1,))
    flow = flow_vae.flow_parts.prior_chain(kind, 3, fresh.config.prior_layers, fresh.config.flow_hidden)

    def inverse(point):
        return flow.inverse(fresh.params["prior"], point)[0]

    start, jacobian = jax.jit(jax.vmap(lambda point: (inverse(point), jax.jacfwd(inverse)(point))))(z[0])
    log_det = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
    log_prior = norm.logpdf(np.asarray(start, np.float64)).sum(-1) + log_det
    expected = fresh.log_px(z)[0] + log_prior - fresh.encode().log_prob(z)[0]
    np.testing.assert_allclose(fresh.log_weights(1)[0], expected, rtol=1e-3, atol=1e-3)
    metrics = fresh.outcome().metrics
    np.testing.assert_allclose(metrics["prior_cross_entropy"], -log_prior, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(metrics["posterior_entropy"], -fresh.encode().log_prob(z)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_without_flows_the_model_is_the_plain_vae():
    fresh, plain = Fresh(flow_vae, **NONE), Fresh(vae, kl="monte_carlo")
    np.testing.assert_allclose(fresh.log_weights(4), plain.log_weights(4), rtol=1e-6)
    np.testing.assert_allclose(fresh.outcome().losses["vae"], plain.outcome().losses["vae"], rtol=1e-6)
    assert fresh.recipe.figures == {}


@pytest.mark.slow
def test_householder_turns_the_gaussian_and_keeps_its_kl_to_the_standard_normal():
    fresh = bent(posterior_flow="householder", num_samples=4000)
    q = fresh.encode()
    exact = divergences.kl(q.base, Normal(jnp.zeros(3), 1.0))
    # log q - log p at 4,000 draws deviates by a few nats, so this is over four standard errors
    np.testing.assert_allclose(fresh.outcome().metrics["kl"], exact, atol=4 * 3.0 / np.sqrt(4000), rtol=0.05)
    z = np.asarray(q.sample(KEY, (20_000,)))[:, 0]
    covariance = np.cov(z.T)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "posterior"),
    [("iaf", "diagonal"), ("householder", "full"), ("sylvester", "fixed"), ("planar", "diagonal")],
)
def test_moments_are_those_of_many_draws(kind, posterior):
    q = bent(posterior_flow=kind, posterior=posterior).encode()
    z = np.asarray(q.sample(jax.random.key(9), (20_000,)))
    deviation = z.std(0)
    assert np.all(np.abs(q.mean - z.mean(0)) < 5 * deviation / 16)  # 256 draws
    np.testing.assert_allclose(q.variance, z.var(0), rtol=0.8)
    np.testing.assert_array_equal(q.mean, q.mean)


@pytest.mark.slow
@pytest.mark.parametrize("kind", POSTERIORS)
def test_the_encoder_sets_each_examples_own_flow(kind):
    fresh = bent(posterior_flow=kind)
    gradients = fresh.gradients()
    kernel = np.asarray(gradients["encoder"]["output"]["kernel"])
    base = 2 * 3  # mean and log-scale
    assert kernel.shape[1] > base and np.abs(kernel[:, base:]).max() > 1e-6
    learned = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradients["posterior"])]
    assert max(learned) > 1e-6


@pytest.mark.slow
def test_figures_of_flows():
    fresh = bent(posterior_flow="planar", prior_flow="real_nvp")
    before, after = fresh.figure("posterior_flow")
    assert before.points.shape == after.points.shape == (1000, 2) and before.x_label != before.y_label
    grid = fresh.figure("prior_flow")
    assert grid.images.shape == (8, 2, 4, 4, 1) and grid.column_labels == ("0", "1")
    single = bent(posterior_flow="planar", latent_dim=1)
    assert single.figure("posterior_flow")[1].points.shape == (1000, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow_hidden": (8,)}, "--flow_hidden=8: --posterior_flow=iaf needs widths of at least --latent_dim=10"),
        ({"flow_hidden": (64, 0)}, "--flow_hidden=64x0: expected numbers of at least 1"),
        ({"posterior_layers": 0}, "--posterior_layers=0"),
        ({"prior_layers": -1}, "--prior_layers=-1"),
        ({"posterior_flow": "sylvester", "sylvester_units": 11}, "expected at most --latent_dim=10"),
        ({"sylvester_units": 0}, "--sylvester_units=0"),
        ({"latent_dim": 1}, "--prior_flow=real_nvp needs --latent_dim of at least 2"),
    ],
)
def test_configs_out_of_range_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        flow_vae.Config(**changes)


@pytest.mark.slow
def test_flows_take_any_value_of_a_flag_that_they_do_not_use():
    assert flow_vae.Config(posterior_flow="planar", flow_hidden=(8,)).flow_hidden == (8,)
    assert flow_vae.Config(sylvester_units=50).sylvester_units == 50
    assert bent(prior_flow="real_nvp", flow_hidden=()).log_weights(2).shape == (2, BATCH)
