"""Gradients that are accumulated over parts of a batch, against those of the entire batch; frozen variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.synthetic import BATCH, MODEL, HParams, assert_close

import vaex
from vaex.errors import UserError
from vaex.models import registry
from vaex.training.step import StepVariant, gradient_algorithm

KEY = jax.random.key(5)
CLIPPED = HParams(learning_rate=0.1, critic_learning_rate=0.1, clip_norm=0.1, weight_decay=0.3)
EIGHT = {"x": jnp.asarray(np.random.default_rng(3).normal(size=(64, 3)), jnp.float32)}
X = np.random.default_rng(0).integers(0, 17, (80, 8, 8), np.uint8)


def without_count(key, variables, hparams, batch, *, train):
    outcome = MODEL.objective(key, variables, hparams, batch, train=train)
    return outcome._replace(state=variables.state)


STATELESS = MODEL._replace(objective=without_count)


@pytest.mark.parametrize(
    ("optimizer", "hparams"),
    [("sgd", HParams()), pytest.param("adam", CLIPPED, marks=pytest.mark.slow)],
    ids=["plain", "clipped"],
)
def test_an_update_in_eight_parts_is_that_of_the_batch(optimizer, hparams):
    stepper = gradient_algorithm(STATELESS, optimizer=optimizer)
    assert stepper.vary is not None
    state = stepper.init(KEY, hparams, EIGHT)
    entire, metrics = jax.jit(stepper.step)(state, EIGHT)
    in_parts, of_parts = jax.jit(stepper.vary(8, ()).step)(state, EIGHT)
    assert_close(in_parts.variables.params, entire.variables.params)
    assert_close(in_parts.opt_state, entire.opt_state)
    del metrics["draw"], of_parts["draw"]  # a number that the objective draws, here once in each part
    assert_close(of_parts, metrics)
    eighth, _ = jax.jit(stepper.step)(state, {"x": EIGHT["x"][:8]})
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), eighth.variables, entire.variables))
    assert max(map(float, moved)) > 1e-3, "the test has power: an eighth of the batch gives another update"


def test_what_cannot_be_computed_in_parts_is_refused():
    with pytest.raises(UserError, match="compares the examples of a batch"):
        gradient_algorithm(MODEL._replace(compares_examples=True), variant=StepVariant(accumulate=2))
    stepper = gradient_algorithm(MODEL, variant=StepVariant(accumulate=2))
    with pytest.raises(UserError, match="moves averages of the batch"):
        jax.eval_shape(stepper.step, stepper.init(KEY, HParams(), BATCH), BATCH)
    with pytest.raises(ValueError, match="8 rows in 3 parts"):
        stepper = gradient_algorithm(STATELESS, variant=StepVariant(accumulate=3))
        jax.eval_shape(stepper.step, stepper.init(KEY, HParams(), BATCH), BATCH)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("beta_tc_vae", {}, "compares the examples of a batch"),
        ("vq_vae", registry.module("vq_vae").TINY, "moves averages of the batch"),
        ("vae", {"accumulate": 3}, "does not divide --batch_size=16; choose a divisor"),
    ],
)
def test_models_refuse_before_anything_is_compiled(model, options, message):
    options = {"accumulate": 2, "batch_size": 16, "steps": 1, "devices": 1, "progress": False, **options}
    with pytest.raises(UserError, match=message):
        vaex.train(model, X, **options)


@pytest.mark.slow
def test_a_linear_vae_trains_alike_in_parts():
    """Its expectations are in closed form: nothing is drawn, which each part would do anew."""
    options = {"latent_dim": 2, "expectation": "closed_form"}
    quick = {"devices": 1, "progress": False, "batch_size": 64, "steps": 5, "log_every": 5, "learning_rate": 1e-3}
    entire = vaex.train("linear_vae", X, **options, **quick)
    in_parts = vaex.train("linear_vae", X, accumulate=8, **options, **quick)
    for left, right in zip(
        jax.tree.leaves(entire.state.variables), jax.tree.leaves(in_parts.state.variables), strict=True
    ):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    assert in_parts.rows()[-1]["elbo"] == pytest.approx(entire.rows()[-1]["elbo"], rel=1e-5)


@pytest.mark.slow
def test_memory_of_a_step_falls_with_the_number_of_parts():
    """XLA's own count of temporary memory in a convolutional step."""
    recipe, _, spec = vaex.build("vae", np.zeros((4, 32, 32, 3), np.uint8), network="conv", likelihood="gaussian")
    batch = {"x": jax.ShapeDtypeStruct((64, *spec.shape), jnp.float32)}
    stepper = recipe.stages[0].algorithm
    assert stepper.vary is not None
    hparams = registry.module("vae").HParams()
    state = jax.eval_shape(lambda x: stepper.init(KEY, hparams, {"x": x}), batch["x"])
    sizes = []
    for parts in (1, 8):
        step = stepper.vary(parts, ()).step
        analysis = jax.jit(step, donate_argnums=0).lower(state, batch).compile().memory_analysis()
        assert analysis is not None
        sizes.append(analysis.temp_size_in_bytes)
    assert sizes[1] < 0.5 * sizes[0], sizes
