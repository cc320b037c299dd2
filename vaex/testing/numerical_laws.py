"""Laws of the numbers: finite losses, gradients that stay in their parameter group, bounds that tighten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Latents, Outcome
from vaex.testing.assertions import assert_equal, assert_finite
from vaex.testing.subject import BATCH, NothingToCheck, quickly

if TYPE_CHECKING:
    from vaex.core import Batch, PyTree, TrainState
    from vaex.testing.subject import Subject

REPEATS = 400  # draws of each bound, for standard errors


def finite_gradients(subject: Subject) -> None:
    """Black, white and constant images give finite losses, and parameters that stay finite."""
    step = subject.compiled_step()
    for value in (0, 255, 128):
        state, batch = subject.first_state(), subject.stored_batch()
        constant = batch | {"x": jnp.asarray(np.full(batch["x"].shape, value, np.uint8))}
        for _ in range(3):
            state, metrics = step(state, constant)
            assert metrics["finite"] == 1, f"images of the constant {value} give {metrics}"
            assert_finite((metrics, state.variables))


def runs_in_64_bits(subject: Subject) -> None:
    """A step of a float32 state keeps each dtype where jax makes arrays of 64 bits; it is traced, and nothing is computed."""
    states = jax.eval_shape(subject.states_after((0,)), subject.finished)
    state = jax.eval_shape(lambda stacked: jax.tree.map(lambda leaf: leaf[0], stacked), states)
    batch = subject.stored_batch()
    with jax.enable_x64(True):
        new, _ = jax.eval_shape(lambda state, batch: subject.algorithm.step(state, batch), state, batch)
    for (path, before), after in zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(new), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert before.dtype == after.dtype, f"{name} is {before.dtype} before a step and {after.dtype} after it"


def groups_keep_apart(subject: Subject) -> None:
    """A parameter group's update, by the model's own algorithm, does not change where the losses of other groups are scaled."""
    groups = tuple(subject.first_state().variables.params)
    if len(groups) < 2:
        raise NothingToCheck("the model has one parameter group" if groups else "the stage trains no parameters")
    original = Outcome.__new__

    @jax.jit
    def updated(factors: dict[str, jax.Array], state: TrainState, batch: Batch) -> dict[str, PyTree]:
        def scaled(cls: type, losses: dict[str, jax.Array], *rest: Any, **named: Any) -> Any:
            return original(cls, {name: factors[name] * loss for name, loss in losses.items()}, *rest, **named)

        with mock.patch.object(Outcome, "__new__", scaled):  # reaches objectives that an algorithm has closed over
            return subject.algorithm.step(state, batch)[0].variables.params

    with quickly():
        before = updated({name: np.float32(1) for name in groups}, subject.first_state(), subject.stored_batch())
    for group in groups:
        factors = {name: np.float32(1 if name == group else 3) for name in groups}
        after = updated(factors, subject.first_state(), subject.stored_batch())
        assert_equal(after[group], before[group])


def bounds_tighten(subject: Subject) -> None:
    """Bounds do not fall, in the mean, from the ELBO to log (1/k) sum w and then with k, within four standard errors; they grow,
    except where the posterior is a point (integer codes)."""
    if subject.recipe.model.log_weights is None:
        raise NothingToCheck("log_weights is None: the model defines no density")
    subject.require_last_stage("log_weights")
    elbo, weights = _drawn_bounds(subject)
    by_k = [np.mean(np.logaddexp.reduce(weights[:, :k], axis=1) - np.log(k), axis=-1) for k in (1, 4, 16)]
    steps = [("elbo", elbo, "1 sample", by_k[0])] if np.isfinite(elbo).any() else []
    steps += [("1 sample", by_k[0], "4", by_k[1]), ("4 samples", by_k[1], "16", by_k[2])]
    for low_name, low, high_name, high in steps:
        gain = high - low
        least = -4 * np.std(gain) / np.sqrt(len(gain)) - 1e-5 * np.mean(np.abs(low))
        assert np.mean(gain) >= least, f"the bound falls by {-np.mean(gain):.4g} nats from {low_name} to {high_name}"
    if all(block.kind == "code" for block in subject.recipe.latents or (Latents("normal", 0),)):
        assert np.ptp(weights, axis=1).max() == 0, "codes have a point for their posterior, but samples differ"
    else:
        assert np.mean(by_k[2] - by_k[0]) > 0, "16 samples give no tighter bound than one"


def _drawn_bounds(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Draw the mean ELBO of a batch, [repeats], -inf where the model reports none, and 16 log weights of each example, [repeats,
    16, b]."""
    log_weights, variables = subject.recipe.model.log_weights, subject.first_state().variables
    assert log_weights is not None

    def draw(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(jax.random.key(3), index)
        hparams, batch = subject.first_hparams(), subject.input_batch()
        outcome = subject.recipe.stages[-1].model.objective(key, variables, hparams, batch, train=False)
        weights = log_weights(jax.random.fold_in(key, 1), variables, hparams, batch, 16)
        return jnp.mean(outcome.metrics.get("elbo", -jnp.inf)), weights

    with quickly():
        elbo, weights = map(np.asarray, jax.jit(jax.vmap(draw))(np.arange(REPEATS)))
    chex.assert_shape(weights, (REPEATS, 16, BATCH))
    assert np.isfinite(weights).all(), "log_weights are not finite"
    return elbo, weights
