"""A trained run in Python: shapes, determinism, the numbers of its summary, exact likelihoods."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.untrained_runs import BINARY, DIGITS, untrained

import vaex
from vaex.api.trained_model import TrainedModel
from vaex.data.loader import user_examples
from vaex.evaluation import latents
from vaex.training import population

KEY = jax.random.key(0)


@pytest.mark.slow
def test_shapes(run, digits):
    x = digits[:7]
    posterior = run.encode(x)
    assert posterior.mean.shape == (7, 2) and posterior.sample(KEY, (3,)).shape == (3, 7, 2)
    assert posterior.log_prob(posterior.mean).shape == (7,)
    likelihood = run.decode(posterior.mean)
    assert likelihood.mean.shape == likelihood.sample(KEY).shape == (7, 8, 8, 1)
    assert likelihood.log_prob(user_examples.model_inputs(run.spec, "test", x)).shape == (7,)
    assert run.reconstruct(x).shape == (7, 8, 8, 1)
    assert run.sample(KEY, 5).shape == run.sample(KEY, 5, show="sample").shape == (5, 8, 8, 1)
    assert run.log_likelihood(KEY, x, 4).shape == (7,)
    assert run.latent_shape == (2,) and run.step == 20
    assert "digits" in repr(run) and "step=20" in repr(run)


def test_no_examples_are_no_error(run, digits):
    assert run.reconstruct(digits[:0]).shape == (0, 8, 8, 1)
    assert run.log_likelihood(KEY, digits[:0], 4).shape == (0,)


def test_the_same_call_gives_the_same_numbers(trained, run, digits):
    again = vaex.load(str(trained), member=1)
    for call in (
        lambda loaded: loaded.encode(digits[:7]).mean,
        lambda loaded: loaded.reconstruct(digits[:7]),
        lambda loaded: loaded.sample(KEY, 5),
        lambda loaded: loaded.sample(KEY, 5, show="sample"),
        lambda loaded: loaded.log_likelihood(KEY, digits[:7], 4),
    ):
        np.testing.assert_array_equal(call(run), call(run))
        np.testing.assert_array_equal(call(run), call(again))


def test_keys_matter_where_something_is_drawn(run, digits):
    other = jax.random.key(1)
    assert not np.array_equal(run.sample(KEY, 5), run.sample(other, 5))
    assert not np.array_equal(run.sample(KEY, 5), run.sample(KEY, 5, show="sample"))
    assert not np.array_equal(run.log_likelihood(KEY, digits[:7], 4), run.log_likelihood(other, digits[:7], 4))


def test_draws_lie_on_the_datas_levels(run):
    levels = np.asarray(run.sample(KEY, 50, show="sample")) * 16
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert len(np.unique(np.round(levels))) > 8


def test_a_reconstruction_is_the_decoded_posterior_mean(run, digits):
    np.testing.assert_array_equal(run.reconstruct(digits[:7]), run.decode(run.encode(digits[:7]).mean).mean)


def test_numbers_agree_with_the_summary(trained, digits):
    members = json.loads((trained / "summary.json").read_text())["members"]
    for index, summary in enumerate(members):
        posterior = vaex.load(trained, member=index).encode(digits)
        kl = latents.marginal_kl(np.asarray(posterior.mean), np.asarray(posterior.variance))
        np.testing.assert_allclose(kl, summary["kl_per_latent"], rtol=1e-4, atol=2e-6)


def test_members_differ(trained, digits):
    first, second = (vaex.load(trained, member=index) for index in (0, 1))
    assert (float(first.hparams.beta), float(second.hparams.beta)) == (1.0, 4.0)
    assert not np.array_equal(first.encode(digits).mean, second.encode(digits).mean)
    run = vaex.load(trained)
    np.testing.assert_array_equal(run[0].encode(digits).mean, first.encode(digits).mean)
    with pytest.raises(AttributeError, match=r"choose one of them first, as in run\[0\]"):
        run.encode(digits)


def test_averaged_parameters_are_used(trained, run):
    state = population.member(vaex.load(trained).state, 1)
    used, averaged, last = (
        jax.tree.leaves(params) for params in (run.variables.params, state.average, state.variables.params)
    )
    for ours, mean, final in zip(used, averaged, last, strict=True):
        np.testing.assert_array_equal(ours, mean)
        assert not np.array_equal(mean, final)


def test_a_model_without_a_density(digits):
    run = untrained(DIGITS, model="autoencoder")
    assert run.encode(digits).mean.shape == (200, 2) and run.reconstruct(digits).shape == digits.shape
    assert np.isfinite(run.sample(KEY, 6)).all()
    with pytest.raises(ValueError, match="defines no density"):
        run.log_likelihood(KEY, digits)


def exact_log_likelihood(run: TrainedModel, x: np.ndarray) -> np.ndarray:
    """log p(x) [b] of a run with two latents, by quadrature on a grid that leaves out 1e-8 of the prior's mass."""
    axis = np.linspace(-6, 6, 241)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_prior = -0.5 * np.sum(grid**2, axis=-1) - np.log(2 * np.pi) + 2 * np.log(axis[1] - axis[0])
    values = user_examples.model_inputs(run.spec, "test", x)
    log_px = jax.lax.map(lambda z: run.decode(z[None]).log_prob(values), jnp.asarray(grid, jnp.float32))
    return np.asarray(jax.nn.logsumexp(np.asarray(log_px, np.float64) + log_prior[:, None], axis=0))


@pytest.mark.slow
def test_importance_weights_have_the_exact_mean(run, digits):
    """exp of the estimate is unbiased for p(x): its mean over keys is the quadrature's, within four standard errors."""
    x = digits[:6]
    exact = exact_log_likelihood(run, x)
    keys = jax.random.split(jax.random.key(5), 60)
    ratios = np.exp(np.stack([run.log_likelihood(key, x, 100) for key in keys]).astype(np.float64) - exact)
    error = np.std(ratios, axis=0, ddof=1) / np.sqrt(len(keys))
    assert np.all(error < 0.2), "too few samples to tell anything"
    assert np.all(np.abs(np.mean(ratios, axis=0) - 1) < 4 * error + 1e-4)


@pytest.mark.slow
def test_many_samples_are_no_less_than_the_elbo(run, digits):
    """The elbo is the mean of log w of single samples; each example's bound with K = 2,000 lies above it."""
    x = digits[:20]
    single = np.stack([run.log_likelihood(key, x, 1) for key in jax.random.split(jax.random.key(6), 50)])
    elbo, error = np.mean(single, axis=0), np.std(single, axis=0, ddof=1) / np.sqrt(50)
    many = np.asarray(run.log_likelihood(KEY, x, 2000))
    assert np.all(many >= elbo - 4 * error) and np.mean(many) > np.mean(elbo)


@pytest.mark.slow
def test_bernoulli_binarises_grey_values_by_the_key():
    run = untrained(DIGITS, "--likelihood=bernoulli")
    assert run.spec.binarize == "dynamic"
    grey = np.full((4, 8, 8, 1), 8, np.uint8)
    sharp = np.where(np.arange(64).reshape(8, 8, 1) % 2, 16, 0).astype(np.uint8)[None]
    key, other = jax.random.split(KEY)
    log_likelihoods = np.asarray(run.log_likelihood(key, grey, 4))
    assert len(np.unique(log_likelihoods)) == 4 and np.all(log_likelihoods < 0)
    assert not np.array_equal(log_likelihoods, run.log_likelihood(other, grey, 4))
    sample = untrained(BINARY)  # the same network, on data that is binary already
    np.testing.assert_array_equal(run.log_likelihood(key, sharp, 4), sample.log_likelihood(key, sharp // 16, 4))


def test_a_seed_is_no_key(run, digits):
    for call in (
        lambda: run.sample(0, 3),
        lambda: run.log_likelihood(3, digits),
        lambda: run.sample(jax.random.split(KEY), 1),
    ):
        with pytest.raises(ValueError, match=r"expected a key.* jax\.random\.key\(0\)"):
            call()
    assert run.sample(jax.random.PRNGKey(0), 1).shape == (1, 8, 8, 1)
