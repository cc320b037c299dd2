"""Optimizers: each name is optax's own, a function of the learning rate is used as it is, and each group may have its own."""

import functools

import jax
import numpy as np
import optax
import pytest
from helpers.synthetic import BATCH, MODEL, HParams, assert_close, by_optax, own_gradient

from vaex.core import Model, Outcome, Variables
from vaex.errors import UserError
from vaex.training.optimizers import OPTIMIZERS
from vaex.training.step import ParameterGroup, gradient_algorithm

KEY = jax.random.key(5)
COMPLETE = {
    "adam": optax.adam,
    "adamax": optax.adamax,
    "adabelief": optax.adabelief,
    "amsgrad": optax.amsgrad,
    "lion": functools.partial(optax.lion, weight_decay=0.0),
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "nadam": optax.nadam,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}
SLOPES = np.arange(1, 4, dtype=np.float32)


def bowl_objective(key, variables, hparams, batch, *, train):
    w = variables.params["bowl"]
    return Outcome({"bowl": 0.5 * ((w - 1.0) ** 2 @ SLOPES)}, (), {})


BOWL = Model(lambda key, batch: Variables({"bowl": jax.random.normal(key, (3,))}), bowl_objective, *(None,) * 4)  # pyright: ignore


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_each_name_is_optax_without_its_rate(name):
    stepper = gradient_algorithm(BOWL, optimizer=name)
    state = stepper.init(KEY, HParams(learning_rate=0.05), BATCH)
    w, step = state.variables.params["bowl"], jax.jit(stepper.step)
    optimizer = COMPLETE[name](0.05)
    optax_state = optimizer.init(w)

    @jax.jit
    def by_optax(w, optax_state):
        updates, optax_state = optimizer.update((w - 1.0) * SLOPES, optax_state, w)
        return optax.apply_updates(w, updates), optax_state

    for _ in range(8):  # radam begins to rectify at the sixth
        state, _ = step(state, BATCH)
        w, optax_state = by_optax(w, optax_state)
        assert_close(state.variables.params["bowl"], w)


def test_the_table_is_complete():
    assert set(COMPLETE) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    "optimizer",
    [optax.adam(1e-3), optax.scale_by_adam(), optax.scale_by_adam, 0.001, None],
    ids=["complete", "direction", "factory of a direction", "number", "nothing"],
)
@pytest.mark.parametrize("per_group", [False, True])
def test_what_is_no_function_of_the_learning_rate_is_refused(optimizer, per_group):
    if optimizer is None and per_group:  # None in a group means the others' optimizer
        return
    chosen = {"groups": {"critic": ParameterGroup(optimizer)}} if per_group else {"optimizer": optimizer}
    with pytest.raises(UserError, match=r"expected a name or a function of the learning rate; pass optax\.adam"):
        gradient_algorithm(MODEL, **chosen)


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda rate: optax.adam(rate, b1=0.5),
        lambda rate: optax.chain(optax.clip(0.5), optax.adamw(rate, weight_decay=0.1)),
        lambda rate: optax.set_to_zero(),
    ],
    ids=["adam", "chain", "frozen"],
)
def test_a_function_of_the_learning_rate_is_optax_with_that_rate(optimizer):
    def stepper():
        return gradient_algorithm(MODEL, optimizer=optimizer)

    state = jax.jit(lambda: stepper().init(KEY, HParams(), BATCH))()
    rules = {"encoder": optimizer(0.01), "critic": optimizer(0.002)}
    expected = by_optax(rules, state.variables.params, 3)
    step = jax.jit(lambda state: stepper().step(state, BATCH))
    for _ in range(3):
        state, _ = step(state)
    assert_close(state.variables.params, expected)


def test_the_rate_of_a_function_may_be_scheduled_and_decay_is_added():
    hparams = HParams(learning_rate="ramp:0.1:0.3:2", weight_decay=0.5)
    stepper = gradient_algorithm(MODEL, optimizer=optax.sgd)
    state, step = stepper.init(KEY, hparams, BATCH), jax.jit(stepper.step)
    for rate in (0.1, 0.2, 0.3):
        params = state.variables.params["encoder"]["w"]
        gradient = own_gradient(state.variables.params, "encoder")["w"]
        state, _ = step(state, BATCH)
        assert_close(state.variables.params["encoder"]["w"], params - rate * (gradient + 0.5 * params))


def test_each_group_may_have_its_own():
    stepper = gradient_algorithm(
        MODEL, optimizer="sgd", groups={"encoder": ParameterGroup(lambda rate: optax.set_to_zero())}
    )
    before = stepper.init(KEY, HParams(), BATCH)
    after, _ = jax.jit(stepper.step)(before, BATCH)
    old, new = before.variables.params, after.variables.params
    assert np.array_equal(old["encoder"]["w"], new["encoder"]["w"])
    assert not np.array_equal(old["critic"]["v"], new["critic"]["v"])
