"""Codes on the sphere: unit norms, the KL against its density, what the decoder sees, figures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
from helpers.fresh import BATCH, KEY, SPEC, Fresh

from vaex.distributions import UniformSphere
from vaex.errors import UserError
from vaex.models.priors import hyperspherical_vae


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 3, 10])
def test_samples_of_posterior_and_prior_have_unit_norm(d):
    fresh = Fresh(hyperspherical_vae, latent_dim=d).jitter()
    components = hyperspherical_vae.build_components(fresh.config, SPEC)
    prior = components.prior(fresh.params, fresh.hparams)
    assert isinstance(prior, UniformSphere)
    for z in (fresh.encode().sample(KEY, (500,)), prior.sample(KEY, (500,))):
        assert z.shape[-1] == d
        np.testing.assert_allclose(np.linalg.norm(np.asarray(z, np.float64), axis=-1), 1.0, rtol=1e-6)
    assert np.all(np.linalg.norm(fresh.encode().mean, axis=-1) < 1.0)


@pytest.mark.slow
def test_log_weights_and_kl_are_those_of_scipys_densities():
    fresh = Fresh(hyperspherical_vae, num_samples=2000).jitter()
    q = fresh.encode()
    z = np.asarray(q.sample(KEY, (2000,)), np.float64)
    directions = np.asarray(q.mode, np.float64)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    log_q = np.stack(
        [
            st.vonmises_fisher(mu, float(k)).logpdf(z[:, b])
            for b, (mu, k) in enumerate(zip(directions, q.concentration, strict=True))
        ],
        axis=1,
    )
    ratio = log_q + np.log(4 * np.pi)
    np.testing.assert_allclose(fresh.log_weights(2000), fresh.log_px(jnp.asarray(z, jnp.float32)) - ratio, atol=2e-3)
    metrics = fresh.outcome().metrics
    assert np.all(np.abs(metrics["kl"] - ratio.mean(0)) < 4.5 * ratio.std(0) / np.sqrt(2000))
    np.testing.assert_allclose(metrics["concentration"], q.concentration, rtol=1e-6)
    assert np.all(q.concentration >= 1.0)


@pytest.mark.slow
def test_codes_are_decoded_by_their_direction():
    fresh = Fresh(hyperspherical_vae).jitter()
    z = jax.random.normal(KEY, (BATCH, 3))
    np.testing.assert_allclose(fresh.log_px(z), fresh.log_px(7.0 * z), rtol=1e-5)
    assert np.abs(fresh.log_px(z) - fresh.log_px(-z)).max() > 1e-3


@pytest.mark.slow
def test_figures_suit_the_sphere():
    fresh = Fresh(hyperspherical_vae).jitter()
    grid = fresh.figure("sphere")
    assert grid.images.shape == (11, 24, 4, 4, 1) and grid.row_labels[0] == "75°" and grid.column_labels[0] == "−180°"
    equator = grid.row_labels.index("0°"), grid.column_labels.index("90°")
    at = fresh.recipe.model.decode(fresh.variables, fresh.hparams, jnp.array([0.0, 1.0, 0.0]), {}).mean
    np.testing.assert_allclose(grid.images[equator], at, atol=1e-5)
    circles = fresh.figure("great_circles")
    assert circles.images.shape == (4, 11, 4, 4, 1)
    np.testing.assert_array_equal(circles.images[:, 0], fresh.batch["x"][::2])
    ends = fresh.recipe.model.decode(fresh.variables, fresh.hparams, fresh.encode().mode, {}).mean
    np.testing.assert_allclose(circles.images[:, 1], ends[::2], atol=1e-5)
    np.testing.assert_allclose(circles.images[:, -2], ends[1::2], atol=1e-5)
    assert "sphere" not in Fresh(hyperspherical_vae, latent_dim=4).recipe.figures


def test_configs_out_of_range_are_refused():
    with pytest.raises(UserError, match="--latent_dim=1: expected at least 2"):
        hyperspherical_vae.Config(latent_dim=1)
    with pytest.raises(UserError, match="--num_samples=0"):
        hyperspherical_vae.Config(num_samples=0)


@pytest.mark.slow
def test_arcs_between_few_examples():
    """One example is a pair with itself; of three, the last has no partner."""
    fresh = Fresh(hyperspherical_vae).jitter()
    one = fresh.figure("great_circles", x=fresh.batch["x"][:1]).images
    assert one.shape == (1, 11, 4, 4, 1)
    np.testing.assert_allclose(one[0, 1:-1], np.broadcast_to(one[0, 1], one[0, 1:-1].shape), atol=1e-5)
    assert fresh.figure("great_circles", x=fresh.batch["x"][:3]).images.shape == (1, 11, 4, 4, 1)
