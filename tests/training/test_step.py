"""The step against hand computation: whose gradient reaches whom, in which order an update is made, and how large it is."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.synthetic import BATCH, MODEL, HParams, assert_close, assert_equal, by_optax, losses, own_gradient

from vaex.configuration import hparam, hyperparameters
from vaex.core import Model, Outcome, Variables
from vaex.errors import UserError
from vaex.schedules import Scalar, resolve
from vaex.training.hyperparameters import TrainingHParams
from vaex.training.step import ParameterGroup, averaged_variables, gradient_algorithm, masked_mean, with_inputs

KEY = jax.random.key(5)
GROUPS = ("encoder", "critic")


RATES = {"encoder": 0.01, "critic": 0.002}


@hyperparameters
class SkippingHParams(HParams):
    skip_norm: Scalar | None = hparam(None, off=math.inf, doc="Largest gradient that is not skipped.")


compiled = functools.cache(lambda **options: jax.jit(gradient_algorithm(MODEL, **options).step))


def start(hparams=None, model=MODEL, **options):
    """A first state, and the compiled step; tests with the same options share it."""
    stepper = gradient_algorithm(model, **options)
    shared = model is MODEL and not any(isinstance(value, dict) for value in options.values())
    return stepper.init(KEY, hparams or HParams(), BATCH), compiled(**options) if shared else jax.jit(stepper.step)


def moved(before, after):
    return jax.tree.map(lambda a, b: np.asarray(b) - np.asarray(a), before, after)


@pytest.mark.slow
def test_each_group_receives_only_its_own_gradient():
    state, step = start(optimizer="sgd")
    params = state.variables.params
    after, _ = step(state, BATCH)
    for group, rate in RATES.items():
        gradients = own_gradient(params, group)
        total = jax.grad(lambda p: sum(losses(p, BATCH["x"], 0.0).values()))(params)[group]
        for name, gradient in gradients.items():  # the test has power: what leaks would show
            assert np.max(np.abs(total[name] - gradient)) > 1e-3, f"the losses don't share {group}/{name}"
        expected = jax.tree.map(lambda value, g, r=rate: value - r * g, params[group], gradients)
        assert_close(after.variables.params[group], expected)


def test_adam_equals_a_loop_written_with_optax():
    state, step = start()
    expected = by_optax({group: optax.adam(rate) for group, rate in RATES.items()}, state.variables.params, 20)
    for _ in range(20):
        state, _ = step(state, BATCH)
    assert_close(state.variables.params, expected)
    assert int(state.step) == 20 and int(state.variables.state["seen"]) == 20 * 8


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_group_updates_once_in_its_period(optimizer):
    state, step = start(optimizer=optimizer, groups={"critic": ParameterGroup(period=3)})
    changed = []
    for _ in range(7):
        before = state
        state, _ = step(state, BATCH)
        changed.append({group: np.any(np.concatenate([np.ravel(d) for d in jax.tree.leaves(difference)]) != 0)
                        for group, difference in moved(before.variables.params, state.variables.params).items()})  # fmt: skip
        if optimizer == "adam":
            counts = {group: int(state.opt_state[group].count) for group in GROUPS}
            assert counts == {"encoder": len(changed), "critic": (len(changed) + 2) // 3}
    assert [groups["critic"] for groups in changed] == [True, False, False, True, False, False, True]
    assert all(groups["encoder"] for groups in changed)


@pytest.mark.parametrize("limit", [0.05, 1.0, 1e3, float("inf")])
def test_clipping_is_by_each_groups_global_norm(limit):
    state, step = start(HParams(clip_norm=limit), optimizer="sgd")
    after, _ = step(state, BATCH)
    norms = {}
    for group, rate in RATES.items():
        gradient = jax.tree.map(np.float64, own_gradient(state.variables.params, group))
        norms[group] = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(gradient)))
        scale = min(1.0, limit / norms[group])
        expected = jax.tree.map(lambda v, g, s=rate * scale: v - s * g, state.variables.params[group], gradient)
        assert_close(after.variables.params[group], jax.tree.map(np.float32, expected))
    assert norms["critic"] < 1.0 < norms["encoder"], "1.0 should clip one group and not the other"


def test_a_schedule_is_read_at_the_step():
    hparams = HParams(learning_rate="ramp:0.1:0.5:4", critic_learning_rate="cycle:0:0.4:4")
    state, step = start(hparams, optimizer="sgd")
    for index in range(6):
        after, metrics = step(state, BATCH)
        rates = {"encoder": 0.1 + 0.4 * min(index / 4, 1), "critic": 0.4 * min((index % 4) / 2, 1)}
        np.testing.assert_allclose(metrics["rate"], rates["encoder"], rtol=1e-6)
        for group, rate in rates.items():
            gradient = own_gradient(state.variables.params, group)
            expected = jax.tree.map(lambda v, g, r=rate: v - r * g, state.variables.params[group], gradient)
            assert_close(after.variables.params[group], expected)
        state = after


def test_decay_is_decoupled_and_for_matrices_only():
    state, step = start(HParams(weight_decay=0.3))
    params = state.variables.params
    for _ in range(5):
        state, _ = step(state, BATCH)
    matrices = {group: {name: value.ndim >= 2 for name, value in params[group].items()} for group in GROUPS}
    assert matrices == {"encoder": {"w": True, "b": False}, "critic": {"v": True, "c": False}}
    rules = {group: optax.adamw(RATES[group], weight_decay=0.3, mask=matrices[group]) for group in GROUPS}
    assert_close(state.variables.params, by_optax(rules, params, 5))


def test_order_of_an_update_is_clip_scaling_decay_rate():
    """With a large decay and a tight clip each other order gives other numbers."""
    state, step = start(HParams(clip_norm=0.01, weight_decay=0.5), optimizer="momentum")
    params = trace = state.variables.params["encoder"]["w"]
    trace = np.zeros_like(trace)
    for _ in range(3):
        gradient = own_gradient(state.variables.params, "encoder")
        norm = np.sqrt(sum(np.sum(np.float64(g) ** 2) for g in gradient.values()))
        trace = 0.9 * trace + np.asarray(gradient["w"]) * min(1.0, 0.01 / norm)
        params = params - 0.01 * (trace + 0.5 * params)
        state, _ = step(state, BATCH)
        np.testing.assert_allclose(state.variables.params["encoder"]["w"], params, rtol=1e-6, atol=1e-7)


def test_average_against_a_loop():
    state, step = start(HParams(average_decay=0.5))
    assert_equal(state.average, state.variables.params)
    mean = jax.tree.map(np.float64, state.variables.params)
    for index in range(12):  # (1 + t) / (10 + t) passes one half at t = 8
        state, _ = step(state, BATCH)
        decay = min(0.5, (1 + index) / (10 + index))
        mean = jax.tree.map(lambda m, p, d=decay: d * m + (1 - d) * np.float64(p), mean, state.variables.params)
        assert_close(state.average, jax.tree.map(np.float32, mean))
    used = averaged_variables(state)
    assert_equal(used.params, state.average)
    assert_equal(used.state, state.variables.state)


def test_without_averaging_the_parameters_are_used():
    state, _ = start()
    assert state.average == () and averaged_variables(state) is state.variables


def broken(spoil):
    """The model with its losses changed by ``spoil(losses, params)``."""

    def objective(key, variables, hparams, batch, *, train):
        outcome = MODEL.objective(key, variables, hparams, batch, train=train)
        return outcome._replace(losses=spoil(outcome.losses, variables.params))

    return MODEL._replace(objective=objective)


def test_a_loss_that_is_not_finite_is_reported():
    def objective(key, variables, hparams, batch, *, train):
        outcome = MODEL.objective(key, variables, hparams, batch, train=train)
        return outcome._replace(losses={name: loss + batch[name] for name, loss in outcome.losses.items()})

    state, step = start(model=MODEL._replace(objective=objective))
    assert step(state, BATCH | {"encoder": 0.0, "critic": 0.0})[1]["finite"] == 1
    for group, other in (GROUPS, GROUPS[::-1]):
        for value in (np.nan, np.inf, -np.inf):
            assert step(state, BATCH | {group: value, other: 0.0})[1]["finite"] == 0


def test_a_gradient_that_is_not_finite_is_reported_when_clipping():
    root = broken(lambda terms, params: terms | {"critic": terms["critic"] + jnp.sqrt(params["critic"]["c"] * 0.0)})
    for limit, finite in ((1.0, 0), (None, 1)):  # without the norm only the loop can see it, in the parameters
        state, step = start(HParams(clip_norm=limit), model=root)
        after, metrics = step(state, BATCH)
        assert metrics["finite"] == finite
        assert np.isnan(after.variables.params["critic"]["c"])


def test_names_of_losses_and_means_of_metrics():
    state, step = start()
    _, metrics = step(state, BATCH)
    expected = losses(state.variables.params, BATCH["x"], 0.0)
    np.testing.assert_allclose(metrics["encoder_loss"], expected["encoder"], rtol=1e-6)
    np.testing.assert_allclose(metrics["critic_loss"], expected["critic"], rtol=1e-6)
    np.testing.assert_allclose(metrics["first"], np.mean(BATCH["x"][:, 0]), rtol=1e-6)
    mask = jnp.array([1.0] * 3 + [0.0] * 5)
    np.testing.assert_allclose(step(state, BATCH | {"mask": mask})[1]["first"], np.mean(BATCH["x"][:3, 0]), rtol=1e-6)
    single = Model(lambda key, batch: Variables({"only": {"w": jnp.ones(3)}}), lambda key, v, h, batch, *, train: Outcome(
        {"only": jnp.sum(v.params["only"]["w"])}, (), {}), *(None,) * 4)  # fmt: skip
    state, step = start(model=single)
    assert set(step(state, BATCH)[1]) == {"loss", "finite"}


def test_a_mean_ignores_what_is_masked():
    values = jnp.array([1.0, 2.0, jnp.nan, 6.0])
    assert masked_mean(values, jnp.array([1.0, 1.0, 0.0, 1.0])) == 3.0
    assert masked_mean(values, jnp.zeros(4)) == 0.0
    assert masked_mean(jnp.array(7.0), jnp.zeros(4)) == 7.0
    assert masked_mean(values[:2], None) == 1.5
    with pytest.raises(ValueError, match=r"shape \(4, 2\), expected \[\] or \(4,\) like the mask"):
        masked_mean(jnp.ones((4, 2)), jnp.ones(4))
    with pytest.raises(ValueError, match=r"shape \(4, 2\), expected \[\] or \[b\]"):
        masked_mean(jnp.ones((4, 2)), None)


def test_randomness_is_the_root_key_folded_with_the_step():
    state, step = start(HParams(noise=1.0), optimizer="sgd")
    for index in range(3):
        key = jax.random.fold_in(state.key, index)
        noise = jax.random.normal(key)
        gradient = own_gradient(state.variables.params, "critic", noise)
        expected = jax.tree.map(lambda v, g: v - 0.002 * g, state.variables.params["critic"], gradient)
        state, metrics = step(state, BATCH)
        np.testing.assert_allclose(metrics["draw"], noise, rtol=1e-6)  # compiled alone, it may round otherwise
        assert_close(state.variables.params["critic"], expected)


def test_inputs_change_x_with_the_members_own_noise():
    drawn_keys = []

    def prepare(key, x):
        jax.debug.callback(lambda data: drawn_keys.append(tuple(data.tolist())), jax.random.key_data(key))
        return x + jax.random.uniform(key)

    stepper = with_inputs(gradient_algorithm(MODEL), prepare)
    states = [stepper.init(jax.random.key(seed), HParams(), BATCH) for seed in (5, 6)]
    step = jax.jit(stepper.step)
    for state in states:
        for index in range(3):
            now = state._replace(step=jnp.int32(index))
            _, metrics = step(now, BATCH)
            jax.effects_barrier()
            drawn = jax.random.uniform(jax.random.wrap_key_data(jnp.array(drawn_keys[-1], jnp.uint32)))
            np.testing.assert_allclose(metrics["first"], np.mean(BATCH["x"][:, 0]) + drawn, rtol=1e-5)
            _, again = step(now, BATCH)
            assert again["first"] == metrics["first"], "the same step of the same member draws the same"
    used = {data for data in drawn_keys}
    assert len(used) == 2 * (1 + 3), "init and the steps of both members draw apart"
    folded = {
        tuple(np.asarray(jax.random.key_data(jax.random.fold_in(state.key, t))).tolist())
        for state in states
        for t in range(3)
    }
    assert not used & folded, "the model's own noise is another"


def test_numbers_become_schedules_also_inside_jit():
    outside = gradient_algorithm(MODEL).init(KEY, HParams(learning_rate=0.25), BATCH)
    inside = jax.jit(gradient_algorithm(MODEL).init)(KEY, HParams(learning_rate=0.25), BATCH)
    assert_equal(outside.hparams, inside.hparams)
    assert resolve(inside.hparams, 3).learning_rate == 0.25


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"groups": {"critic": ParameterGroup(period=0)}}, ValueError, "the period is 0, expected a whole number"),
        ({"groups": {"critic": ParameterGroup(period=1.5)}}, ValueError, "the period is 1.5, expected a whole number"),
        (
            {"groups": {"critc": ParameterGroup(period=5)}},
            ValueError,
            "groups name critc; the model's parameter groups are critic, encoder",
        ),
        ({"optimizer": "adamm"}, UserError, "no optimizer is called 'adamm'; did you mean adam"),
        ({"groups": {"critic": ParameterGroup("adamm")}}, UserError, "no optimizer is called 'adamm'"),
        ({"groups": {"judge": ParameterGroup("sgd")}}, ValueError, "groups name judge"),
        (
            {"groups": {"critic": ParameterGroup(learning_rate="rate")}},
            ValueError,
            "no hyperparameter is called 'rate'",
        ),
    ],
)
def test_invalid_arguments_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        start(**options)


def test_losses_must_be_of_the_groups():
    state, step = start(model=broken(lambda terms, _: {"encoder": terms["encoder"]}))
    with pytest.raises(ValueError, match="the objective's losses lack critic"):
        step(state, BATCH)
    state, step = start(model=broken(lambda terms, _: terms | {"judge": terms["critic"]}))
    with pytest.raises(ValueError, match="the objective's losses name judge"):
        step(state, BATCH)
    state, step = start(model=broken(lambda terms, _: terms | {"critic": jnp.ones(3)}))
    with pytest.raises(AssertionError, match="rank"):
        step(state, BATCH)


def test_weak_types_do_not_retrace():
    """``jnp.array(0.5)`` is of a weak type, which a step would lose."""

    def init(key, batch):
        variables = MODEL.init(key, batch)
        return variables._replace(state={"seen": jnp.array(0), "level": jnp.full((), 0.5)})

    def objective(key, variables, hparams, batch, *, train):
        outcome = MODEL.objective(key, variables, hparams, batch, train=train)
        return outcome._replace(state={"seen": variables.state["seen"] + 1, "level": jnp.full((), 0.25)})

    assert init(KEY, BATCH).params["critic"]["c"].weak_type and init(KEY, BATCH).state["level"].weak_type
    stepper, traces = gradient_algorithm(MODEL._replace(init=init, objective=objective)), []
    step = jax.jit(lambda state: (traces.append(1), stepper.step(state, BATCH)[0])[1])
    state = stepper.init(KEY, HParams(), BATCH)
    for _ in range(3):
        state = step(state)
    assert len(traces) == 1


def test_the_state_must_keep_its_structure():
    def objective(key, variables, hparams, batch, *, train):
        outcome = MODEL.objective(key, variables, hparams, batch, train=train)
        return outcome._replace(state={"seen": outcome.state["seen"].astype(jnp.float32)})

    state, step = start(model=MODEL._replace(objective=objective))
    with pytest.raises(AssertionError, match="dtype"):
        step(state, BATCH)


def test_what_switches_something_on_is_its_value():
    """From Python as on the command line: no option beside the hyperparameter says whether it counts."""
    state, step = start(HParams(clip_norm=1e-3), optimizer="sgd")
    clipped = step(state, BATCH)[0].variables.params
    plain = start(optimizer="sgd")[1](start(optimizer="sgd")[0], BATCH)[0].variables.params
    change = np.linalg.norm(clipped["encoder"]["w"] - state.variables.params["encoder"]["w"])
    assert change < 1.001e-3 * 0.01 < np.linalg.norm(plain["encoder"]["w"] - state.variables.params["encoder"]["w"])
    assert start(HParams(average_decay=0.9))[0].average != () and start()[0].average == ()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [({"learning_rate": -1.0}, "--learning_rate=-1: expected at least 0"), ({"average_decay": 1.5}, "at most 1"),
     ({"clip_norm": 0.0}, "--clip_norm=0: expected at least 1e-12"), ({"weight_decay": np.nan}, "weight_decay=nan")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(wrong, match):
    with pytest.raises(UserError, match=match):
        TrainingHParams(**wrong)


@pytest.mark.slow
def test_a_step_of_too_large_a_gradient_changes_nothing():
    """Neither parameters, moments, average nor the model's state; a step below the threshold is one without it."""
    norms = [float(optax.tree.norm(own_gradient(start()[0].variables.params, group))) for group in GROUPS]
    for threshold, skipped in ((0.99 * max(norms), 1.0), (1.01 * max(norms), 0.0)):
        state, step = start(SkippingHParams(skip_norm=threshold, average_decay=0.9))
        after, metrics = step(state, BATCH)
        assert (metrics["skipped"], metrics["finite"], after.step) == (skipped, 1.0, 1)
        plain = start(SkippingHParams(average_decay=0.9))
        expected = state if skipped else plain[1](plain[0], BATCH)[0]
        assert_equal((after.variables, after.opt_state, after.average),
                     (expected.variables, expected.opt_state, expected.average))  # fmt: skip


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_that_is_not_finite_is_skipped_however_high_the_threshold(value):
    state, step = start(SkippingHParams(skip_norm=1e9))
    after, metrics = step(state, BATCH | {"x": BATCH["x"].at[0, 0].set(value)})
    assert metrics["skipped"] == 1.0 and metrics["finite"] == 1.0
    assert_equal((after.variables, after.opt_state), (state.variables, state.opt_state))
    again, metrics = step(after, BATCH)
    assert metrics["skipped"] == 0.0 and np.isfinite(metrics["encoder_loss"])
    assert not np.array_equal(again.variables.params["encoder"]["w"], state.variables.params["encoder"]["w"])


def test_stacked_biases_do_not_decay():
    def objective(key, variables, hparams, batch, *, train):
        return Outcome({"vae": 0.0 * jnp.sum(variables.params["vae"]["bias"])}, (), {})

    params = {"kernel": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3))}
    model = MODEL._replace(init=lambda key, batch: Variables({"vae": params}), objective=objective)
    stepper = gradient_algorithm(model, optimizer="sgd")
    after, _ = jax.jit(stepper.step)(stepper.init(KEY, TrainingHParams(weight_decay=1.0), BATCH), BATCH)
    assert np.all(np.asarray(after.variables.params["vae"]["kernel"]) < 1)
    assert np.all(np.asarray(after.variables.params["vae"]["bias"]) == 1)
