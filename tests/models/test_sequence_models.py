"""Models of sequences: their bounds against a linear-Gaussian chain whose likelihoods are known, predictions, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from vaex import testing
from vaex.api.trained_model import TrainedModel
from vaex.cli import main as cli
from vaex.distributions import Normal
from vaex.models.sequences import _state_space as state_space
from vaex.models.sequences import _temporal_difference as td
from vaex.models.sequences._sequence_figures import draw_predictions

# z_1 ~ N(0, 1), z_t = A z_{t-1} + N(0, Q), x_t = z_t + N(0, R)
A, Q, R, LENGTH = 0.8, 0.3, 0.5, 4


def chain(length=LENGTH):
    """Means are zero; covariances of x, and of z with x, [t, t] each."""
    variance = [1.0]
    for _ in range(length - 1):
        variance.append(A**2 * variance[-1] + Q)
    times = np.arange(length)
    early = np.minimum.outer(times, times)
    z = A ** np.abs(np.subtract.outer(times, times)) * np.array(variance)[early]
    return z + R * np.eye(length), z


def log_px(x):
    """Of sequences [b, t]."""
    return multivariate_normal(np.zeros(x.shape[1]), chain(x.shape[1])[0]).logpdf(x)


def filtered(x, t):
    """Mean [b] and variance of z_t given x_1 .. x_t (t from 1 on)."""
    covariance, z = chain(x.shape[1])
    gain = np.linalg.solve(covariance[:t, :t], z[:t, t - 1])
    return x[:, :t] @ gain, z[t - 1, t - 1] - z[t - 1, :t] @ gain


def predictive(x, t, k):
    """log p(x_{t+k} | x_1 .. x_t) of sequences [b, t]."""
    mean, variance = filtered(x, t)
    for _ in range(k):
        mean, variance = A * mean, A**2 * variance + Q
    return multivariate_normal(0.0, variance + R).logpdf(x[:, t + k - 1] - mean)


def log_scale(variance):
    return 0.5 * np.log(variance)


@pytest.fixture(scope="module")
def sequences():
    covariance, _ = chain()
    return np.random.default_rng(0).multivariate_normal(np.zeros(LENGTH), covariance, 3).astype(np.float32)


# --- sequence_vae: the chain as a cell whose state is the latest z, and 1 / 0 for whether there was one ------------------


def optimal_cell():
    """Its posterior p(z_t | z_{t-1}, x_t) is the best that looks at no later frame."""

    def prior(h):
        variance = jnp.where(h[..., 1:] > 0, Q, 1.0)
        return A * h[..., :1], 0.5 * jnp.log(variance)

    def posterior(h, x):
        mean, scale = prior(h)
        precision = jnp.exp(-2.0 * scale) + 1.0 / R
        return (mean * jnp.exp(-2.0 * scale) + x / R) / precision, -0.5 * jnp.log(precision)

    return state_space.Cell(
        lambda shape: jnp.zeros((*shape, 2)), prior, posterior, lambda h, z: jnp.concatenate([z, jnp.ones_like(z)], -1)
    )


def test_weights_of_paths_average_to_the_exact_likelihood_and_their_mean_bounds_it(sequences):
    cell, samples = optimal_cell(), 20_000

    @jax.jit
    def weights(key, x):
        noise = jax.random.normal(key, (samples, len(x), LENGTH, 1))
        path = state_space.draw_path(cell, noise, x[..., None])
        log_px = Normal(path.z[..., 0], log_scale=jnp.full(path.z.shape[:-1], log_scale(R)), event_ndims=1).log_prob(x)
        return log_px + path.log_p() - path.log_q(), log_px - jnp.sum(path.kl(), -1)

    log_weights, bound = map(np.asarray, weights(jax.random.key(0), sequences))
    exact = log_px(sequences)
    ratios = np.exp(log_weights - exact)  # of mean 1
    assert np.all(np.abs(ratios.mean(0) - 1) < 4 * ratios.std(0) / np.sqrt(samples))
    for elbo in (log_weights, bound):
        assert np.all(elbo.mean(0) < exact - 4 * elbo.std(0) / np.sqrt(samples))  # strict: it looks at no later frame
    error = np.sqrt((log_weights.var(0) + bound.var(0)) / samples)
    assert np.all(np.abs(log_weights.mean(0) - bound.mean(0)) < 4 * error)  # the KL in closed form and by samples


def test_given_latents_follow_the_path_that_drew_them(sequences):
    cell, noise = optimal_cell(), jax.random.normal(jax.random.key(1), (5, 3, LENGTH, 1))
    drawn = state_space.draw_path(cell, noise, sequences[..., None])
    again = state_space.follow_path(cell, drawn.z, sequences[..., None])
    for leaf, followed in zip(jax.tree.leaves(drawn), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(leaf, followed, rtol=1e-6)


def test_a_path_of_the_prior_goes_on_from_where_another_ended(sequences):
    cell = optimal_cell()
    observed = state_space.draw_path(cell, jnp.zeros((3, LENGTH, 1)), sequences[..., None])
    beyond = state_space.draw_path(cell, jnp.zeros((3, 2, 1)), start=observed.end)
    np.testing.assert_allclose(beyond.z[:, :, 0], observed.z[:, -1] * A ** np.array([1, 2]), rtol=1e-6)
    assert beyond.posterior is None


# --- td_vae: exact conditionals of the chain, where a belief's state is its mean and log scale ---------------------------


def exact_conditionals():
    """Of jumps of any length; q_S is that of a jump of one step, and is exact there."""

    def transition(z, jump):
        powers = A**jump
        variance = Q * (1 - A ** (2 * jump)) / (1 - A**2)
        return Normal(powers[..., None] * z, log_scale=0.5 * jnp.log(variance)[..., None] + 0 * z)

    def belief(b):
        return Normal(b[..., :1], log_scale=b[..., 1:])

    def smoothing(z2, before, after, jump):
        precision = jnp.exp(-2.0 * before[..., 1:])
        total = precision + A**2 / Q
        return Normal((before[..., :1] * precision + A * z2 / Q) / total, log_scale=-0.5 * jnp.log(total) + 0 * z2)

    return td.Conditionals(
        belief, smoothing, transition, lambda z: Normal(z, log_scale=jnp.full(z.shape, log_scale(R)))
    )


def belief_states(x):
    """[b, t + 1, 2] of the exact filter; that before the first frame is chosen so that a jump from it leads to p(z_1)."""
    start = np.full((len(x), 2), [0.0, log_scale((1.0 - Q) / A**2)])
    rest = [np.stack([mean, np.full(len(x), log_scale(variance))], -1) for mean, variance in
            (filtered(x, t) for t in range(1, x.shape[1] + 1))]  # fmt: skip
    return jnp.asarray(np.stack([start, *rest], axis=1), jnp.float32)


def test_with_exact_conditionals_the_loss_is_the_negative_log_likelihood_of_each_pair(sequences):
    states, x, rows = belief_states(sequences), jnp.asarray(sequences)[..., None], np.arange(3)[:, None]
    before = np.tile(np.arange(LENGTH), (3, 1))
    pairs = td.Pairs(jnp.ones((3, LENGTH), jnp.int32), states[rows, before], states[rows, before + 1], x)
    draw = jax.vmap(lambda key: td.pair_terms(key, exact_conditionals(), pairs).total)
    losses = np.asarray(jax.jit(draw)(jax.random.split(jax.random.key(0), 4000)))
    exact = np.stack([log_px(sequences[:, :1]), *(predictive(sequences, t, 1) for t in range(1, LENGTH))], axis=1)
    assert np.all(np.abs(losses.mean(0) + exact) < 4 * losses.std(0) / np.sqrt(4000) + 1e-5)
    np.testing.assert_allclose(exact.sum(1), log_px(sequences), rtol=1e-6)  # the chain rule


def test_weights_of_sequences_are_their_exact_likelihood_where_conditionals_are_exact(sequences):
    x = jnp.asarray(sequences)[..., None]
    weights = jax.jit(lambda key: td.log_weights(key, exact_conditionals(), belief_states(sequences), x, 50))(
        jax.random.key(0)
    )
    # no sample differs from another
    np.testing.assert_allclose(weights, np.tile(log_px(sequences), (50, 1)), rtol=1e-4)


def test_the_loss_of_longer_jumps_is_an_upper_bound(sequences):
    """The later belief knows the frames between, which the likelihood is not of, and q_S is not exact: so it is not tight."""
    states, x = belief_states(sequences), jnp.asarray(sequences)[..., None]
    pairs = td.Pairs(jnp.full((3, 1), 2), states[:, 1:2], states[:, 3:4], x[:, 2:3])
    draw = jax.vmap(lambda key: td.pair_terms(key, exact_conditionals(), pairs).total[:, 0])
    losses = np.asarray(jax.jit(draw)(jax.random.split(jax.random.key(0), 4000)))
    assert np.all(losses.mean(0) > -predictive(sequences, 1, 2) + 4 * losses.std(0) / np.sqrt(4000))


@pytest.mark.parametrize("max_jump", [1, 2, 3])
def test_jumps_predict_as_the_filter_does(sequences, max_jump):
    conditionals, states = exact_conditionals(), belief_states(sequences)

    @jax.jit
    def estimate(key):
        z = conditionals.belief(states[:, 1]).sample(key, (40_000,))
        z = td.jump_ahead(jax.random.fold_in(key, 1), conditionals, z, 3, max_jump)
        return conditionals.decode(z).log_prob(jnp.asarray(sequences)[:, 3:])

    ratios = np.exp(np.asarray(estimate(jax.random.key(0))) - predictive(sequences, 1, 3))
    assert np.all(np.abs(ratios.mean(0) - 1) < 4 * ratios.std(0) / 200)


def test_pairs_have_their_times_and_frames():
    x = jnp.arange(1.0, 7.0)[None].repeat(5, 0)  # frame t holds the number t
    states = jnp.arange(7.0)[None, :, None].repeat(5, 0)  # the state after t frames holds t
    pairs = td.draw_pairs(jax.random.key(0), states, x, 400, 4)
    before, after, jump = np.asarray(pairs.before[..., 0]), np.asarray(pairs.after[..., 0]), np.asarray(pairs.jump)
    np.testing.assert_array_equal(after - before, jump)
    np.testing.assert_array_equal(pairs.frame, after)
    assert set(before.ravel()) == set(range(6)) and set(jump.ravel()) == {1, 2, 3, 4}
    assert np.all(np.abs(np.bincount(jump.ravel())[1:] / jump.size - 0.25) < 4 * np.sqrt(0.25 * 0.75 / jump.size))


# --- both -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sequence_vae", "td_vae"])
def subject(request):
    built = testing.build_subject(request.param)
    return built, built.first_state().variables, built.first_hparams(), built.input_batch()


@pytest.mark.slow
def test_predictions_are_of_one_frame_for_each_sample_after_any_number_of_frames(subject):
    model, variables, hparams, batch = subject
    predict = model.recipe.sequences.predict
    for length, steps in ((1, 1), (2, 3)):
        prefix = {"x": batch["x"][:, :length]}
        predicted = jax.jit(lambda key, b=prefix, k=steps: predict(key, variables, hparams, b, k, 4))(jax.random.key(0))
        assert predicted.batch_shape == (4, 8) and predicted.event_shape == (8, 8, 1)
        assert np.isfinite(predicted.log_prob(batch["x"][:, 0])).all()
        assert np.ptp(np.asarray(predicted.mean), axis=0).max() > 0


@pytest.mark.slow
def test_a_run_predicts_after_any_number_of_frames_and_refuses_invalid_arguments(subject):
    model, variables, hparams, batch = subject
    run, key = TrainedModel(model.recipe, model.spec, variables, hparams, 0), jax.random.key(0)
    frames = np.asarray(batch["x"][:, :2])
    predicted = run.predict(key, frames, 3, num_samples=4)
    direct = jax.jit(
        lambda: model.recipe.sequences.predict(key, variables, hparams, {"x": jnp.asarray(frames)}, 3, 4).mean
    )
    np.testing.assert_allclose(predicted.mean, direct(), rtol=1e-5)
    assert run.predict(key, frames[..., 0], 1).batch_shape == (1, 8)
    for x, steps, count, message in (
        (frames, 0, 1, "steps=0"),
        (frames, 1, 0, "num_samples=0"),
        (frames[0], 1, 1, r"expected \[b, t, 8, 8, 1\]"),
        (frames[:, :0], 1, 1, r"expected \[b, t, 8, 8, 1\]"),
        (frames + np.nan, 1, 1, "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            run.predict(key, x, steps, count)


@pytest.mark.slow
def test_codes_are_the_latents_of_all_frames_and_decode_to_sequences(subject):
    model, variables, hparams, batch = subject
    q = model.recipe.model.encode(jax.random.key(0), variables, hparams, batch)
    z = q.sample(jax.random.key(1), (2,))
    assert z.shape == (2, 8, 6) and q.mean.shape == q.variance.shape == (8, 6)
    assert model.recipe.model.decode(variables, hparams, z, {}).log_prob(batch["x"]).shape == (2, 8)
    assert q.log_prob(z).shape == (2, 8) and np.isfinite(q.log_prob(z)).all()


@pytest.mark.slow
def test_figures_of_predictions_have_a_column_for_each_horizon(subject):
    model, variables, hparams, batch = subject
    grid = draw_predictions(model.recipe.sequences.predict, jax.random.key(0), variables, hparams, batch)
    assert grid.images.shape == (6, 5, 8, 8, 1) and grid.column_labels[:2] == ("last seen", "truth +1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, expected",
    [
        (
            ["--model=vae", "--dataset=bouncing_sprites"],
            "--model=vae is for images and vectors, and bouncing_sprites has",
        ),
        (
            ["--model=td_vae", "--dataset=digits"],
            "--model=td_vae reads sequences, and digits has examples of shape (8, 8, 1)",
        ),
        (
            ["--model=td_vae", "--sequence_length=4", "--max_jump=10"],
            "--max_jump=10: the sequences of bouncing_sprites have 4 frames",
        ),
        (["--model=td_vae", "--latent_dim=5"], "--latent_dim=5: expected a multiple of --layers=2"),
        (["--model=td_vae", "--pairs=0"], "--pairs=0: expected at least 1"),
        (["--model=sequence_vae", "--recurrent=0"], "--recurrent=0: expected at least 1"),
        (["--model=sequence_vae", "--network=mlp", "--hidden="], "--hidden= is empty"),
        (["--model=vae", "--sequence_length=4"], "is for bouncing_sprites and rotating_sprites, and digits is neither"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(flags, expected, tmp_path, capsys):
    assert cli.main([*flags, f"--out={tmp_path / 'run'}"]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1 and not (tmp_path / "run").exists()
