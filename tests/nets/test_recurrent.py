"""The gated recurrent unit compared with Flax's, and over time with one step after the other."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex.nets import GRU, hidden_states


@pytest.mark.slow
def test_gru_equals_that_of_flax_with_the_same_weights():
    key, d, n = jax.random.key(0), 4, 3
    gru, h, x = GRU(d), jax.random.normal(key, (5, d)), jax.random.normal(jax.random.fold_in(key, 1), (5, n))
    params = gru.init(jax.random.fold_in(key, 2), h, x)["params"]
    inputs, recurrent = params["inputs"], params["recurrent"]
    ours = {
        name: {"kernel": kernel} | ({"bias": bias} if bias is not None else {})
        for prefix, layer in (("i", inputs), ("h", recurrent))
        for name, kernel, bias in zip(
            [prefix + gate for gate in "rzn"],
            jnp.split(layer["kernel"], 3, axis=-1),
            jnp.split(layer["bias"], 3) if prefix == "i" else (None, None, jnp.zeros(d)),
            strict=True,
        )
    }
    expected, _ = nn.GRUCell(d).apply({"params": ours}, h, x)
    np.testing.assert_allclose(gru.apply({"params": params}, h, x), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_hidden_states_are_those_of_one_step_after_the_other():
    gru, x = GRU(4), jax.random.normal(jax.random.key(1), (2, 3, 6, 5))
    params = gru.init(jax.random.key(2), jnp.zeros(4), jnp.zeros(5))["params"]
    states = hidden_states(gru, params, x)
    assert states.shape == (2, 3, 7, 4) and not np.any(states[..., 0, :])
    for time in range(6):
        after = gru.apply({"params": params}, states[..., time, :], x[..., time, :])
        np.testing.assert_allclose(states[..., time + 1, :], after, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(hidden_states(gru, params, x[..., :2, :]), states[..., :3, :], rtol=1e-6)
