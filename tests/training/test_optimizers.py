"""Optimizers: each name is optax's own, one that brings its learning rate is refused, and each player may have its own."""

import functools

import jax
import numpy as np
import optax
import pytest
from helpers.synthetic import BATCH, MODEL, HParams, assert_close, by_optax

from vaex.core import Model, Outcome, Variables
from vaex.training.step import OPTIMIZERS, gradient_algorithm

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
WARMED = optax.linear_schedule(0.0, 1e-3, 100)


def bowl_objective(key, variables, hparams, batch, *, train):
    w = variables.params["bowl"]
    return Outcome({"bowl": 0.5 * ((w - 1.0) ** 2 @ SLOPES)}, (), {})


BOWL = Model(lambda key, batch: Variables({"bowl": jax.random.normal(key, (3,))}), bowl_objective, *(None,) * 4)  # pyright: ignore


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_each_name_is_optax_without_its_rate(name):
    stepper = gradient_algorithm(BOWL, optimizer=name)
    state = stepper.init(KEY, HParams(learning_rate=0.05), BATCH)
    w, step = state.variables.params["bowl"], jax.jit(stepper.step)
    optimizer = COMPLETE[name](0.05)
    theirs = optimizer.init(w)

    @jax.jit
    def by_optax(w, theirs):
        updates, theirs = optimizer.update((w - 1.0) * SLOPES, theirs, w)
        return optax.apply_updates(w, updates), theirs

    for _ in range(8):  # radam begins to rectify at the sixth
        state, _ = step(state, BATCH)
        w, theirs = by_optax(w, theirs)
        assert_close(state.variables.params["bowl"], w)


def test_the_table_is_complete():
    assert set(COMPLETE) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.adam(1e-3),
        optax.adamw(1e-3),
        optax.sgd(0.1),
        optax.lion(1e-4),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)),
        optax.inject_hyperparams(optax.adam)(learning_rate=1e-3),
        optax.adam(WARMED),  # its first update is zero
        optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(1e-3)),
    ],
    ids=["adam", "adamw", "sgd", "lion", "clipped", "injected", "warmed", "chained"],
)
@pytest.mark.parametrize("per_player", [False, True])
def test_an_optimizer_with_its_own_rate_is_refused(optimizer, per_player):
    with pytest.raises(ValueError, match="brings its own learning rate"):
        gradient_algorithm(MODEL, optimizer={"encoder": "adam", "critic": optimizer} if per_player else optimizer)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(optax.centralize(), optax.scale_by_rms()),
        optax.MultiSteps(optax.scale_by_adam(), 3).gradient_transformation(),
        optax.set_to_zero(),
    ],
    ids=["centralized", "accumulating", "frozen"],
)
def test_updates_that_are_zero_or_mixed_are_accepted(optimizer):
    gradient_algorithm(MODEL, optimizer=optimizer)


def test_a_transformation_without_a_rate_works_under_jit():
    def stepper():
        return gradient_algorithm(MODEL, optimizer=optax.scale_by_adam(b1=0.5))

    state = jax.jit(lambda: stepper().init(KEY, HParams(), BATCH))()
    rules = {"encoder": optax.adam(0.01, b1=0.5), "critic": optax.adam(0.002, b1=0.5)}
    expected = by_optax(rules, state.variables.params, 3)
    step = jax.jit(lambda state: stepper().step(state, BATCH))
    for _ in range(3):
        state, _ = step(state)
    assert_close(state.variables.params, expected)


def test_each_player_may_have_its_own():
    stepper = gradient_algorithm(MODEL, optimizer={"encoder": optax.set_to_zero(), "critic": "sgd"})
    before = stepper.init(KEY, HParams(), BATCH)
    after, _ = jax.jit(stepper.step)(before, BATCH)
    old, new = before.variables.params, after.variables.params
    assert np.array_equal(old["encoder"]["w"], new["encoder"]["w"])
    assert not np.array_equal(old["critic"]["v"], new["critic"]["v"])
