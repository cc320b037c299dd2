"""Solutions of chapter 9, time."""

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions import Bernoulli, Normal


def test_1_the_bound_of_td_vae_is_an_elbo_of_two_states():
    """Jensen with q = q_S(z_1|z_2) p_B(z_2|b_2) over p_B(z_1|b_1) p_T(z_2|z_1) p(x|z_2).

    z_1 ~ N(0, 1), z_2 ~ N(z_1, 1), x ~ N(z_2, 1): p(x) = N(0, 3); p(z_2|x) = N(2 x / 3, 2 / 3), p(z_1|z_2) = N(z_2 / 2, 1 / 2).
    With these the bound is tight; with a belief that is off it is not.
    """
    x = jnp.array([1.3])

    def bound(offset):
        belief = Normal(2 * x / 3 + offset, (2 / 3) ** 0.5)
        z2 = belief.sample(jax.random.key(0), (20_000,))
        back = Normal(z2 / 2, 0.5**0.5)
        z1 = back.sample(jax.random.key(1))
        loss = -Normal(z2, 1.0).log_prob(x) + belief.log_prob(z2) - Normal(z1, 1.0).log_prob(z2)
        return jnp.mean(loss + back.log_prob(z1) - Normal(jnp.zeros(1), 1.0).log_prob(z1))

    exact = -Normal(jnp.zeros(1), 3**0.5).log_prob(x)
    np.testing.assert_allclose(bound(0.0), exact, atol=1e-3)
    np.testing.assert_allclose(bound(0.5) - exact, 0.25 / (2 * 2 / 3), atol=0.02)  # KL of equal variances


def test_2_a_mean_of_frames_is_one_blurred_future():
    """Left or right, each sure: the mean of likelihoods gives log 1/2; the mean frame says 1/2 for both pixels: log 1/4."""
    futures = Bernoulli(20.0 * jnp.array([[1.0, -1.0], [-1.0, 1.0]]))
    frame = jnp.array([1.0, 0.0])
    log_likelihood = jax.nn.logsumexp(futures.log_prob(frame)) - jnp.log(2)
    blurred = futures.mean.mean(0)
    of_mean = Bernoulli(jnp.log(blurred) - jnp.log1p(-blurred)).log_prob(frame)
    np.testing.assert_allclose([log_likelihood, of_mean], [-np.log(2), -np.log(4)], atol=1e-4)


def test_3_two_frames_show_how_it_moved_and_not_whether_it_turns():
    """After one frame both directions are equally likely: log 2 nats. After two, that of the last move is known, and the next
    move repeats it with probability 0.9: the entropy of a coin of 0.1.
    """
    turn = 0.1

    def next_move(right):
        return np.array([right * (1 - turn) + (1 - right) * turn, right * turn + (1 - right) * (1 - turn)])

    def entropy(p):
        return -np.sum(p * np.log(p))

    np.testing.assert_allclose(entropy(next_move(0.5)), np.log(2))
    np.testing.assert_allclose(entropy(next_move(1.0)), 0.325, atol=1e-3)
