"""A model small enough to follow by hand: an encoder and a critic whose losses both depend on all parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaex.configuration import hparam, hyperparameters, with_default
from vaex.core import Model, Outcome, Variables
from vaex.data import resident_feed
from vaex.schedules import Scalar
from vaex.training.hyperparameters import TrainingHParams

ROWS = 24


@hyperparameters
class HParams(TrainingHParams):
    """The critic has a learning rate of its own; ``noise`` weighs a term that is drawn from the key."""

    learning_rate: Scalar | str = with_default(TrainingHParams, "learning_rate", 0.01)
    critic_learning_rate: Scalar | str = hparam(0.002, doc="Step size of the critic's optimizer.")
    noise: Scalar | str = hparam(0.0, doc="Weight of the random term.")


def init(key: jax.Array, batch: dict) -> Variables:
    w_key, v_key = jax.random.split(key)
    encoder = {"w": jax.random.normal(w_key, (3, 2)), "b": jnp.array([0.3, -0.2])}
    critic = {"v": jax.random.normal(v_key, (2, 1)), "c": jnp.array(0.1)}
    return Variables({"encoder": encoder, "critic": critic}, {"seen": jnp.zeros((), jnp.int32)})


def losses(params: dict, x: jax.Array, noise: jax.Array) -> dict[str, jax.Array]:
    """The encoder's loss and the critic's; each group's parameters appear in both."""
    codes = jnp.tanh(x @ params["encoder"]["w"] + params["encoder"]["b"])
    score = (codes @ params["critic"]["v"])[:, 0] + params["critic"]["c"]
    return {
        "encoder": jnp.mean((jnp.sum(codes, axis=1) - x[:, 0]) ** 2)
        + jnp.mean(score)
        + noise * params["encoder"]["b"][0],
        "critic": jnp.mean(jax.nn.softplus(-score)) + 0.5 * jnp.mean(codes**2) + noise * params["critic"]["c"],
    }


def objective(key: jax.Array, variables: Variables, hparams: HParams, batch: dict, *, train: bool) -> Outcome:
    noise = hparams.noise * jax.random.normal(key)
    metrics = {"first": batch["x"][:, 0], "draw": jax.random.normal(key), "rate": jnp.asarray(hparams.learning_rate)}
    state = {"seen": variables.state["seen"] + len(batch["x"])}
    return Outcome(losses(variables.params, batch["x"], noise), state, metrics)


def _own_loss(own_params: dict, params: dict, noise: jax.Array, group: str) -> jax.Array:
    return losses(params | {group: own_params}, BATCH["x"], noise)[group]


_own_gradient = jax.jit(jax.grad(_own_loss), static_argnums=3)


def own_gradient(params: dict, group: str, noise: float | jax.Array = 0.0) -> dict:
    """The gradient of a group's loss on ``BATCH`` by its own parameters alone, by jax.grad."""
    return _own_gradient(params[group], params, noise, group)


def by_optax(optimizers: dict, params: dict, steps: int) -> dict:
    """Parameters after a loop that is written with complete optax optimizers, one per group."""

    @jax.jit
    def step(params, states):
        new, new_states = {}, {}
        for group, optimizer in optimizers.items():
            gradient = own_gradient(params, group)
            updates, new_states[group] = optimizer.update(gradient, states[group], params[group])
            new[group] = optax.apply_updates(params[group], updates)
        return new, new_states

    states = {group: optimizer.init(params[group]) for group, optimizer in optimizers.items()}
    for _ in range(steps):
        params, states = step(params, states)
    return params


MODEL = Model(init, objective, *(None,) * 4)  # pyright: ignore[reportArgumentType]
ARRAYS = {"x": np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)}
BATCH = {"x": jnp.asarray(ARRAYS["x"][:8])}


def feed(batch_size: int = 4, arrays: dict | None = None):
    return resident_feed(arrays or ARRAYS, batch_size, data_seed=1)


def batch_at(source, step: int) -> dict:
    """The batch of one step, fetched outside the loop."""
    return source.batch(source.resident, source.plan(step, 1)[0])


def assert_equal(a, b) -> None:
    """Every array of two trees is the same, bit for bit, and so is their structure."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for first, second in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        first, second = (
            jax.random.key_data(v) if jnp.issubdtype(v.dtype, jax.dtypes.prng_key) else v for v in (first, second)
        )
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


def assert_close(a, b, tolerance: float = 1e-6) -> None:
    """Every array of two trees agrees within ``tolerance``, relative and absolute."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda first, second: np.testing.assert_allclose(first, second, rtol=tolerance, atol=tolerance), a, b)
