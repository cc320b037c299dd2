"""Solutions of chapter 11, at speed."""

import jax
import jax.numpy as jnp
import numpy as np

from vaex.divergences import total_correlation


def test_1_shapes_and_dtypes_are_traced_and_values_are_not():
    traces = []

    @jax.jit
    def step(key, params, x, learning_rate):
        traces.append(x.shape)
        noise = jax.random.normal(key, x.shape[:1])
        return params - learning_rate * jax.grad(lambda p: jnp.mean((x @ p - noise) ** 2))(params)

    def count(seed=0, batch=4, latents=3, rate=0.1, dtype=jnp.float32):
        before = len(traces)
        step(jax.random.key(seed), jnp.zeros(latents, dtype), jnp.ones((batch, latents), dtype), rate)
        return len(traces) - before

    assert count() == 1
    assert count(rate=0.2) == 0 and count(seed=1) == 0
    assert count(batch=8) == 1 and count(latents=5) == 1 and count(dtype=jnp.bfloat16) == 1


def test_2_pairing_removes_what_is_shared():
    """Var[a - b] = 2 s² (1 - rho) against 2 s²: the factor is 1 - rho."""
    rho, rng = 0.9, np.random.default_rng(0)
    shared = rng.normal(size=100_000) * rho**0.5
    a, b = (shared + rng.normal(size=100_000) * (1 - rho) ** 0.5 for _ in range(2))
    np.testing.assert_allclose((a - b).var() / (a.var() + b.var()), 1 - rho, rtol=0.03)


def test_3_what_compares_examples_is_no_mean_of_parts():
    """Two codes at (-1, -1), two at (1, 1): latents determine each other in the whole batch, and are constant in either half."""
    z = jnp.array([[-1.0, -1.0], [-1.0, -1.0], [1.0, 1.0], [1.0, 1.0]])
    of_batch = jax.jit(lambda z: jnp.mean(total_correlation(z, z, jnp.full(z.shape, -5.0), len(z))))
    np.testing.assert_allclose(of_batch(z), np.log(2), rtol=1e-4)
    np.testing.assert_allclose([of_batch(z[:2]), of_batch(z[2:])], 0.0, atol=1e-5)
    losses = jnp.sum(z**2, axis=1)
    np.testing.assert_allclose(losses.mean(), (losses[:2].mean() + losses[2:].mean()) / 2, rtol=1e-5)
