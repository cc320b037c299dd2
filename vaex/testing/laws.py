"""The laws: each takes a ``Subject`` and raises AssertionError where the model breaks it."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Latents, Outcome
from vaex.testing.subject import (
    BATCH,
    STEPS,
    Subject,
    beginning,
    close,
    compiled_step,
    equal,
    example,
    first_hparams,
    first_state,
    inputs,
    is_last,
    one_member,
    quickly,
    subjects,
    trained,
    values,
)
from vaex.training import loop, population
from vaex.training.checkpoint import Checkpoints


def one_trace(it: Subject) -> None:
    """Hyperparameters are traced: other values recompile nothing, and a program of any number of steps traces one."""
    for index in range(2):
        compiled_step(it)(first_state(it, index), example(it))
    traces = trained(it, (0,), "solo")[0].step_traces
    assert traces == 1, f"a program traced the step {traces} times"


def chunks_are_invisible(it: Subject) -> None:
    """Any cut of the steps into chunks gives the same bits, and a plain Python loop over the step the same numbers."""
    _, whole, rows = trained(it, (0,), "solo")
    _, cut, other_rows = trained(it, (0,), "solo", chunks=(1, 2, 10, 7))
    equal(whole, cut)
    equal(rows, other_rows)
    state, step = first_state(it), compiled_step(it)
    for index in range(STEPS):
        row = jax.tree.map(lambda leaf, i=index: leaf[i], it.feed.plan(0, STEPS))
        state, _ = step(state, it.feed.batch(it.feed.resident, row))
    close(state, one_member(whole.state, 0))


def members_equal_solo_runs(it: Subject) -> None:
    """A member of a population equals its solo run: bit for bit one after the other, within 1e-5 at once."""
    solo = [trained(it, (index,), "solo")[1] for index in (0, 1)]
    for strategy, compare in (("vmap", close), ("members", equal)):
        carry = trained(it, (0, 1), strategy)[1]
        for index in (0, 1):
            compare(one_member(carry, index), one_member(solo[index], 0))


def resume_is_exact(it: Subject) -> None:
    """Training from a checkpoint gives the bits of training that never stopped, the running window of metrics included."""
    program, first, _ = trained(it, (0,), "solo", chunks=(7,))
    restored = _through_checkpoint(first, first)
    resumed, _ = loop.run_chunk(program, restored, 7, STEPS)  # donates what was restored, not what is kept
    equal(resumed, trained(it, (0,), "solo")[1])


def _through_checkpoint(carry: Any, template: Any) -> Any:
    """``carry`` saved and restored like ``template``, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder))
        checkpoints.save(STEPS, carry)
        restored = checkpoints.restore(template)
        checkpoints.close()
    equal(restored, carry)
    return restored


def sharding_changes_nothing(it: Subject) -> None:
    """Divided over devices by member or by batch, training gives the same numbers; a checkpoint moves between the two."""
    solo = [trained(it, (index,), "solo")[1] for index in (0, 1)]
    for strategy, members, devices in (("members", (0, 1), 2), ("solo", (0,), 8)):
        carry = trained(it, members, strategy, devices=min(devices, jax.device_count()))[1]
        for index in members:
            close(one_member(carry, index), one_member(solo[index], 0))
        if len(members) > 1:
            alone = _through_checkpoint(carry, jax.eval_shape(lambda c: c, carry))
            back = _through_checkpoint(alone, carry)
            placed = [leaf.sharding for leaf in jax.tree.leaves(carry)]
            assert [leaf.sharding for leaf in jax.tree.leaves(back)] == placed, "a checkpoint lost its placement"


def finite_gradients(it: Subject) -> None:
    """Black, white and constant images give finite losses, and parameters that stay finite."""
    step = compiled_step(it)
    for value in (0, 255, 128):
        state, batch = first_state(it), example(it)
        for _ in range(3):
            state, metrics = step(state, batch | {"x": np.full_like(batch["x"], value)})
            assert metrics["finite"] == 1, f"images of the constant {value} give {metrics}"
            chex.assert_tree_all_finite(values((metrics, state.variables)))


def players_keep_apart(it: Subject) -> None:
    """A player's update, by the model's own algorithm, does not change where the other players' losses are scaled."""
    players = tuple(first_state(it).variables.params)
    if len(players) == 1:
        return
    original = Outcome.__new__

    @jax.jit
    def updated(factors: dict[str, jax.Array], state: Any, batch: Any) -> Any:
        def scaled(cls: type, losses: Any, *rest: Any, **named: Any) -> Any:
            return original(cls, {name: factors[name] * loss for name, loss in losses.items()}, *rest, **named)

        with mock.patch.object(Outcome, "__new__", scaled):  # reaches objectives that an algorithm has closed over
            return it.algorithm.step(state, batch)[0].variables.params

    with quickly():
        before = updated({name: np.float32(1) for name in players}, first_state(it), example(it))
    for player in players:
        factors = {name: np.float32(1 if name == player else 3) for name in players}
        equal(updated(factors, first_state(it), example(it))[player], before[player])


def stable_state(it: Subject) -> None:
    """A step keeps the state's structure, shapes and dtypes."""
    state = jax.eval_shape(lambda: first_state(it))
    after, metrics = jax.eval_shape(it.algorithm.step, state, example(it))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(metric.shape == () for metric in metrics.values()), f"metrics of a step are scalars, got {metrics}"


def shapes(it: Subject) -> None:
    """encode, decode and sample fit odd image sizes and one or three channels by every network, and give finite values."""
    if not is_last(it):
        return
    for shape, network in (((9, 11, 1), "mlp"), ((13, 8, 3), "mlp"), ((9, 11, 3), "conv")):
        changes = {"network": network} if hasattr(it.module.Config, "network") else {}
        other = subjects(it.module, shape, abstract=True, **changes)[-1]
        states = jax.eval_shape(beginning(other), other.finished)
        variables = population.member_shapes(states).variables
        z, *pictures = jax.eval_shape(lambda v, one=other: _used(one, v), variables)
        _check_shapes(z, pictures, other.spec.shape)
    variables = first_state(it).variables
    with quickly():
        z, *pictures = jax.jit(lambda v: _used(it, v))(variables)
    _check_shapes(z, pictures, it.spec.shape)
    chex.assert_tree_all_finite(values((z, pictures)))


def _used(it: Subject, variables: Any) -> tuple[Any, Any, Any, Any]:
    """Codes, reconstructions, and the means and draws of three samples."""
    hparams, key, recipe = first_hparams(it), jax.random.key(1), it.recipe
    batch = inputs(it)
    z = recipe.encode(key, variables, hparams, batch).mean
    drawn = recipe.sample(key, variables, hparams, 3, None)
    return z, recipe.decode(variables, hparams, z, batch).mean, drawn.mean, drawn.sample(key)


def _check_shapes(z: Any, pictures: list[Any], shape: tuple[int, ...]) -> None:
    assert z.shape[0] == BATCH, f"encode gives codes of shape {z.shape} for {BATCH} examples"
    wanted = [(BATCH, *shape), (3, *shape), (3, *shape)]
    found = [picture.shape for picture in pictures]
    assert found == wanted, f"decode, sample's mean and its draw have shapes {found}, expected {wanted}"


def bounds_tighten(it: Subject) -> None:
    """Where the model has log weights: mean elbo <= mean of log (1/k) sum w, which does not fall with k, within four
    standard errors, and grows, except where the posterior is a point (integer codes)."""
    log_weights = it.recipe.log_weights
    if log_weights is None or not is_last(it):
        return
    variables = first_state(it).variables

    def draw(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(jax.random.key(3), index)
        hparams, batch = first_hparams(it), inputs(it)
        outcome = it.recipe.stages[it.stage].model.objective(key, variables, hparams, batch, train=False)
        weights = log_weights(jax.random.fold_in(key, 1), variables, hparams, batch, 16)
        return jnp.mean(outcome.metrics.get("elbo", -jnp.inf)), weights

    with quickly():
        elbo, weights = map(np.asarray, jax.jit(jax.vmap(draw))(np.arange(400)))
    chex.assert_shape(weights, (400, 16, BATCH))
    assert np.isfinite(weights).all(), "log_weights are not finite"
    by_k = [np.mean(np.logaddexp.reduce(weights[:, :k], axis=1) - np.log(k), axis=-1) for k in (1, 4, 16)]
    steps = [("elbo", elbo, "1 sample", by_k[0])] if np.isfinite(elbo).any() else []
    steps += [("1 sample", by_k[0], "4", by_k[1]), ("4 samples", by_k[1], "16", by_k[2])]
    for low_name, low, high_name, high in steps:
        gain = high - low
        least = -4 * np.std(gain) / np.sqrt(len(gain)) - 1e-5 * np.mean(np.abs(low))
        assert np.mean(gain) >= least, f"the bound falls by {-np.mean(gain):.4g} nats from {low_name} to {high_name}"
    if all(block.kind == "code" for block in it.recipe.latents or (Latents("normal", 0),)):
        assert np.ptp(weights, axis=1).max() == 0, "codes have a point for their posterior, but samples differ"
    else:
        assert np.mean(by_k[2] - by_k[0]) > 0, "16 samples give no tighter bound than one"


LAWS: dict[str, Callable[[Subject], None]] = {
    law.__name__: law
    for law in (
        one_trace,
        chunks_are_invisible,
        members_equal_solo_runs,
        resume_is_exact,
        sharding_changes_nothing,
        finite_gradients,
        players_keep_apart,
        stable_state,
        shapes,
        bounds_tighten,
    )
}
