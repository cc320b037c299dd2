"""Hamiltonian posteriors: importance weights against quadrature, the metric, its samples and geodesics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.fresh import BATCH, KEY, SPEC, Fresh
from jax.scipy.special import logsumexp

from vaex import distributions
from vaex.distributions.family import family
from vaex.models import gaussian, latent
from vaex.models.autoencoders import vae
from vaex.models.priors import _geodesics as geodesics
from vaex.models.priors import _riemannian as riemannian
from vaex.models.priors import hamiltonian_vae, riemannian_hamiltonian_vae

MODELS = pytest.mark.parametrize("module", [hamiltonian_vae, riemannian_hamiltonian_vae])
METRIC = riemannian.Metric(
    jnp.array([[0.0, 0.0], [1.0, 0.5]]),
    jnp.array([[[1.0, 0.0], [0.5, 2.0]], [[0.5, 0.0], [-1.0, 1.0]]]),
    jnp.asarray(0.8),
    jnp.asarray(0.1),
)


@family
class Shifted(distributions.Normal):
    """A Gaussian whose mean a step along the gradient of log p(x, z) has moved."""


def shifted(size):
    """A posterior of a user's own, which sees the decoder."""

    def refine(params, hparams, start, view):
        gradient = jax.grad(lambda z: jnp.sum(view.log_joint(z)))(start.mean)
        return Shifted(start.mean + params["step"] * gradient, log_scale=start.log_scale)

    return gaussian.gaussian_posterior("diagonal", 2)._replace(
        init=lambda key: {"step": jnp.full((), size)}, refine=refine
    )


def components_with(posterior):
    config = gaussian.Config(**gaussian.TINY)
    components = latent.build_components(config, SPEC, posterior, latent.standard_prior(2))
    return components, latent.model(components, latent.negative_elbo(components, lambda hparams, terms: terms.kl))


@pytest.mark.slow
def test_a_posterior_sees_the_batch_and_the_decoder():
    plain = Fresh(vae)
    components, model = components_with(shifted(0.1))
    assert model.log_weights is not None
    params = components.init(KEY, plain.batch)
    start = components_with(shifted(0.0))[0].posterior(
        params | {"posterior": {"step": 0.0}}, plain.hparams, plain.batch
    )

    def log_joint(z):
        px = components.decode(params, plain.hparams, z, plain.batch)
        return jnp.sum(px.log_prob(plain.batch["x"]) + distributions.Normal(jnp.zeros(2), 1.0).log_prob(z))

    q = jax.jit(components.posterior)(params, plain.hparams, plain.batch)
    assert isinstance(q, Shifted)
    np.testing.assert_allclose(q.mean, start.mean + 0.1 * jax.grad(log_joint)(start.mean), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("part", ["posterior", "prior"])
def test_a_density_may_be_declared_unavailable(part):
    posterior, prior = gaussian.gaussian_posterior("diagonal", 2), latent.standard_prior(2)
    if part == "posterior":
        posterior = posterior._replace(density=False)
    else:
        prior = prior._replace(density=False)
    components = latent.build_components(gaussian.Config(**gaussian.TINY), SPEC, posterior, prior)
    model = latent.model(components, latent.negative_elbo(components, lambda hparams, terms: terms.kl))
    assert not components.density and model.log_weights is None


@pytest.mark.slow
def test_a_kl_is_computed_only_where_a_penalty_reads_it():
    """Points as codes have none: the terms of a penalty that asks for it raise, those of another are what they say."""
    point = latent.Posterior(2, lambda params, hparams, raw: distributions.Delta(raw), density=False)
    components = latent.build_components(
        gaussian.Config(**gaussian.TINY), SPEC, point, latent.standard_prior(2)._replace(density=False)
    )

    def outcome(penalty):
        plain = Fresh(vae)
        model = latent.model(components, latent.negative_elbo(components, penalty, num_samples=3))
        variables = model.init(KEY, plain.batch)
        return model.objective(KEY, variables, plain.hparams, plain.batch, train=True)

    losses, _, metrics = outcome(lambda hparams, terms: (7.0, {"norm": jnp.linalg.norm(terms.z[0], axis=-1)}))
    assert set(metrics) == {"reconstruction", "norm"} and metrics["norm"].shape == (BATCH,)
    np.testing.assert_allclose(losses["vae"], np.mean(metrics["reconstruction"]) + 7.0, rtol=1e-6)
    with pytest.raises(TypeError, match=r"no closed form of KL\(Delta \|\| Normal\)"):
        outcome(lambda hparams, terms: terms.kl)


@pytest.mark.slow
@MODELS
def test_importance_weights_estimate_the_likelihood(module):
    """Against quadrature over both latents; generalized leapfrog steps keep volume nearly, as their equations are iterated."""
    hparams = module.HParams(max_step_size=0.3, posterior_scale=1.1)
    fresh = Fresh(module, hparams, posterior="fixed").jitter(0.2)
    axis = np.linspace(-6.0, 6.0, 121)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 1, 2), jnp.float32)
    log_prior = distributions.Normal(jnp.zeros(2), 1.0).log_prob(grid)
    log_px = fresh.log_px(jnp.broadcast_to(grid, (len(grid), BATCH, 2)))
    exact = logsumexp(log_px + log_prior, axis=0) + 2.0 * np.log(axis[1] - axis[0])
    weights = np.asarray(fresh.log_weights(20_000))
    estimate = logsumexp(weights, axis=0) - np.log(len(weights))
    normalised = np.exp(weights - np.asarray(exact))
    errors = np.std(normalised, axis=0) / np.sqrt(len(weights))
    assert np.all(errors < 0.05), errors
    np.testing.assert_allclose(np.exp(estimate - exact), 1.0, atol=float(5 * errors.max()))


@pytest.mark.slow
@MODELS
def test_moments_are_those_of_draws_whose_density_comes_with_them(module):
    q = Fresh(module, leapfrog_steps=2).jitter().encode()
    sample, log_q = q.sample_and_log_prob(KEY, (2, 3))
    assert sample.shape == (2, 3, BATCH, 2) and log_q.shape == (2, 3, BATCH)
    np.testing.assert_array_equal(sample, q.sample(KEY, (2, 3)))
    with pytest.raises(NotImplementedError, match="use sample_and_log_prob"):
        q.log_prob(sample)
    draws = q.sample(jax.random.key(2), (20_000,))
    deviation = np.std(draws, axis=0)
    np.testing.assert_allclose((q.mean - np.mean(draws, axis=0)) / deviation, 0.0, atol=0.6)
    np.testing.assert_allclose(q.variance / deviation**2, 1.0, atol=0.7)


def test_the_metric_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    z, momentum = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    inverse = np.stack(
        [
            0.1 * np.eye(2)
            + sum(
                np.exp(-np.sum((row - c) ** 2) / 0.64) * L @ L.T
                for c, L in zip(np.asarray(METRIC.centroids), np.asarray(METRIC.factors), strict=True)
            )
            for row in z
        ]
    )
    np.testing.assert_allclose(METRIC.inverse(jnp.asarray(z)), inverse, rtol=1e-5)
    np.testing.assert_allclose(METRIC.log_volume(jnp.asarray(z)), -0.5 * np.linalg.slogdet(inverse)[1], rtol=1e-4)
    density = [
        np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(np.linalg.inv(a))[1] + 0.5 * m @ a @ m
        for a, m in zip(inverse, momentum, strict=True)
    ]
    actual = METRIC.kinetic(jnp.asarray(z), jnp.asarray(momentum))
    np.testing.assert_allclose(actual + np.log(2 * np.pi), density, rtol=1e-4)


@pytest.mark.slow
def test_geodesics_are_shorter_than_lines_and_keep_their_ends():
    z0, z1 = jnp.array([[-1.5, 1.0], [0.0, 2.0]]), jnp.array([[2.0, 1.0], [0.1, -2.0]])
    curves, lines = geodesics.geodesics(METRIC, z0, z1), geodesics.straight_lines(z0, z1)
    np.testing.assert_allclose(curves[:, 0], z0, atol=1e-5)
    np.testing.assert_allclose(curves[:, -1], z1, atol=1e-5)

    def energy(curve):
        return geodesics.curve_energy(lambda z: jnp.linalg.inv(METRIC.inverse(z)), curve)

    assert np.all(energy(curves) < 0.9 * energy(lines))
    flat = geodesics.curve_energy(lambda z: jnp.eye(2), lines)
    np.testing.assert_allclose(flat, jnp.sum(jnp.square(z1 - z0), axis=-1), rtol=1e-5)


@pytest.mark.slow
def test_samples_have_the_density_of_prior_and_volume():
    """Their moments against quadrature over the density, whose chains begin elsewhere."""
    prior, metric = distributions.Normal(jnp.zeros(2), 1.0), METRIC._replace(centroids=METRIC.centroids + 1.0)
    z = np.asarray(riemannian.sample_manifold(KEY, metric, prior, 4000, transitions=40))
    axis = np.linspace(-6.0, 6.0, 241)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2), jnp.float32)
    weights = np.asarray(jax.nn.softmax(prior.log_prob(grid) - metric.log_volume(grid)))
    mean, square = weights @ grid, weights @ np.square(grid)
    assert np.abs(mean).max() > 0.15  # the prior's is 0
    np.testing.assert_allclose(np.mean(z, axis=0), mean, atol=0.07)
    np.testing.assert_allclose(np.mean(np.square(z), axis=0), square, atol=0.12)


def test_ellipses_have_one_radius_in_the_metric_and_keep_apart():
    z = np.array([[-1.0, 0.5], [2.0, 1.5], [0.0, -1.0]])
    drawn = np.asarray(geodesics.ellipses(METRIC, jnp.asarray(z)), np.float64)
    centres = drawn[:, :-1].mean(axis=1)
    assert drawn.shape == (geodesics.SIDE**2, geodesics.TURN, 2)
    np.testing.assert_allclose([centres.min(axis=0), centres.max(axis=0)], [z.min(axis=0), z.max(axis=0)], atol=1e-5)
    tensor = np.linalg.inv(np.asarray(METRIC.inverse(jnp.asarray(centres)), np.float64))
    ways = drawn - centres[:, None]
    squares = np.einsum("mti,mij,mtj->mt", ways, tensor, ways)
    np.testing.assert_allclose(squares, squares[0, 0], rtol=1e-3)
    reach = np.max(np.abs(ways), axis=(0, 1)) / (np.ptp(z, axis=0) / (geodesics.SIDE - 1))
    assert reach.max() == pytest.approx(0.45, rel=1e-3)


@pytest.mark.slow
def test_figures_of_geodesics_and_of_the_flow():
    fresh = Fresh(riemannian_hamiltonian_vae)
    images, curves = fresh.figure("geodesic_images"), fresh.figure("geodesics")
    assert np.shape(images.images) == (BATCH, geodesics.POINTS, 4, 4, 1)
    assert {name: np.shape(paths) for name, paths in curves.paths.items()} == {
        "geodesic": (BATCH // 2, geodesics.POINTS, 2),
        "line": (BATCH // 2, geodesics.POINTS, 2),
        "one radius": (geodesics.SIDE**2, geodesics.TURN, 2),
    }
    assert "geodesics" not in Fresh(riemannian_hamiltonian_vae, latent_dim=3).recipe.figures
    before, after = Fresh(hamiltonian_vae).figure("leapfrog")
    assert np.shape(before.points) == np.shape(after.points) == (hamiltonian_vae.DRAWS, 2)
