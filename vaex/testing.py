"""The laws that every model keeps, for vaex's own and for yours: ``check_model("my_package.my_module")``.

Each law takes a ``Subject`` (a model on its TINY config and small random images) and raises AssertionError where the model
breaks it. Sharding laws use as many devices as there are (eight virtual ones in vaex's own tests).
"""

from __future__ import annotations

import itertools
import pathlib
import tempfile
import time
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex import data, experiment, models
from vaex.config import Member, Settings
from vaex.core import Algorithm, Feed, Recipe
from vaex.data.spec import Spec
from vaex.flags import DataFlags, EvaluationFlags, RunFlags
from vaex.schedules import resolve
from vaex.training import algorithm, loop, mesh, population
from vaex.training.checkpoint import Checkpoints

BATCH = 8
EXAMPLES = 32
STEPS = 20


class Subject(NamedTuple):
    """A model on small data: its recipe, the algorithm on stored batches, and two members that differ in the learning rate.

    ``cache`` holds compiled programs and finished runs, so that the laws share them.
    """

    name: str
    recipe: Recipe
    spec: Spec
    algorithm: Algorithm
    arrays: dict[str, np.ndarray]
    feed: Feed
    hparams: Any
    cache: dict[Any, Any]


def images(shape: tuple[int, ...], count: int = EXAMPLES) -> dict[str, np.ndarray]:
    """Random grey or colour images (uint8) with labels, the same each time."""
    rng = np.random.default_rng(0)
    return {"x": rng.integers(0, 256, (count, *shape), np.uint8), "y": rng.integers(0, 10, count).astype(np.int32)}


def subject(model: str | types.ModuleType, shape: tuple[int, ...] = (8, 8, 1), **changes: Any) -> Subject:
    """The model on its TINY config (with ``changes``) and random images of this shape."""
    module = models.module(model) if isinstance(model, str) else model
    config = module.Config(**{**getattr(module, "TINY", {}), **changes})
    members = (Member(0, {}), Member(1, {"learning_rate": "ramp:0.003:0.001:10"}))
    settings = Settings(
        module.__name__, module, RunFlags(), DataFlags(), EvaluationFlags(), config, members, ("learning_rate",), {}
    )
    kind = "grey" if shape[-1] == 1 else "color"
    spec = experiment.resolve_spec(settings, Spec("random", shape, kind, levels=256, num_classes=10))
    recipe = experiment.build_recipe(settings, spec)
    arrays = images(shape)
    stepper = experiment.stage_algorithm(recipe.stages[0], spec)
    feed = data.resident_feed(arrays, BATCH, 0)
    return Subject(module.__name__, recipe, spec, stepper, arrays, feed, experiment.stack_hparams(settings), {})


def _example(it: Subject) -> dict[str, jax.Array]:
    return {name: jnp.asarray(values[:BATCH]) for name, values in it.arrays.items()}


def _inputs(it: Subject) -> dict[str, jax.Array]:
    """Eight examples as model inputs."""
    batch = _example(it)
    return batch | {"x": data.prepare(it.spec, jax.random.key(7), batch["x"])}


def _states(it: Subject, members: tuple[int, ...] = (0, 1)) -> Any:
    """First states of the members, made anew from a cached copy, since training donates them."""
    if ("states", members) not in it.cache:
        hparams = jax.tree.map(lambda leaf: leaf[np.asarray(members)], it.hparams)
        it.cache["states", members] = population.init(it.algorithm, members, hparams, _example(it))
    return jax.tree.map(jnp.copy, it.cache["states", members])


def _step(it: Subject) -> Any:
    """The algorithm's step, compiled alone; it may be traced once."""
    if "step" not in it.cache:
        it.cache["step"] = jax.jit(chex.assert_max_traces(it.algorithm.step, n=1))
    return it.cache["step"]


def _run(
    it: Subject, members: tuple[int, ...], strategy: str, *, chunks: tuple[int, ...] = (STEPS,), devices: int = 1
) -> Any:
    """The program, and the carry and the rows after the given chunks of steps; all kept, the carry not to be donated."""
    name = (members, strategy, devices)
    placement = mesh.choose(len(members), BATCH, devices)
    program = ("program", len(members), strategy, devices)
    if (name, chunks) not in it.cache:
        states = _states(it, members)
        if program not in it.cache:
            it.cache[program], carry = loop.compile_program(
                it.algorithm, it.feed, states, log_every=5, strategy=strategy, placement=placement
            )
        else:
            window = jnp.zeros((len(members), len(it.cache[program].metric_names)), jnp.float32)
            carry = mesh.place(loop.Carry(states, window), placement, members=True)
        rows, step = [], 0
        for length in chunks:
            carry, chunk = loop.run_chunk(it.cache[program], carry, step, step + length)
            rows.append(chunk.rows)
            step += length
        it.cache[name, chunks] = carry, np.concatenate(rows, axis=1)
    return it.cache[program], *it.cache[name, chunks]


def _values(tree: Any) -> Any:
    """Arrays of a tree, keys as their words, so that they can be compared."""

    def words(leaf: Any) -> np.ndarray:
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    return jax.tree.map(words, tree)


def _equal(a: Any, b: Any) -> None:
    chex.assert_trees_all_equal(_values(a), _values(b))


def _close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    chex.assert_trees_all_close(_values(a), _values(b), rtol=tolerance, atol=tolerance)


# --- the laws -----------------------------------------------------------------------------------------------------


def one_trace(it: Subject) -> None:
    """Hyperparameters are traced: other values recompile nothing."""
    states = _states(it)
    for index in range(2):
        _step(it)(population.member(states, index), _example(it))


def chunks_are_invisible(it: Subject) -> None:
    """Any cut of the steps into chunks gives the same bits, and a plain Python loop over the step the same numbers."""
    _, whole, rows = _run(it, (0,), "solo")
    _, cut, other_rows = _run(it, (0,), "solo", chunks=(1, 2, 10, 7))
    _equal(whole, cut)
    _equal(rows, other_rows)
    state, step = population.member(_states(it, (0,)), 0), _step(it)
    for index in range(STEPS):
        row = jax.tree.map(lambda leaf, i=index: leaf[i], it.feed.plan(0, STEPS))
        state, _ = step(state, it.feed.batch(it.feed.resident, row))
    _close(state, population.member(whole.state, 0))


def members_equal_solo_runs(it: Subject) -> None:
    """A member of a population equals its solo run: bit for bit one after the other, within 1e-5 at once."""
    solo = [_run(it, (index,), "solo")[1] for index in (0, 1)]
    for strategy, compare in (("members", _equal), ("vmap", _close)):
        carry = _run(it, (0, 1), strategy)[1]
        for index in (0, 1):
            compare(population.member(carry, index), population.member(solo[index], 0))


def resume_is_exact(it: Subject) -> None:
    """Training from a checkpoint gives the bits of training that never stopped, the running window of metrics included."""
    program, first, _ = _run(it, (0,), "solo", chunks=(7,))
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder))
        checkpoints.save(7, first)
        restored = checkpoints.restore(first)
        checkpoints.close()
    _equal(first, restored)
    resumed, _ = loop.run_chunk(program, restored, 7, STEPS)  # donates what was restored, not what is kept
    _equal(resumed, _run(it, (0,), "solo")[1])


def sharding_changes_nothing(it: Subject) -> None:
    """Divided over devices by member or by batch, training gives the same numbers; a checkpoint moves between the two."""
    plain = _run(it, (0, 1), "vmap")[1]
    for strategy, members, devices in (("vmap", (0, 1), 2), ("members", (0, 1), 2), ("solo", (0,), 8)):
        carry = _run(it, members, strategy, devices=min(devices, jax.device_count()))[1]
        for index in members:
            _close(population.member(carry, index), population.member(plain, index))
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(pathlib.Path(folder))
            checkpoints.save(STEPS, carry)
            _equal(checkpoints.restore(jax.eval_shape(lambda c: c, carry)), carry)
            checkpoints.close()


def finite_gradients(it: Subject) -> None:
    """Black, white and constant images give finite losses, and parameters that stay finite."""
    state, step = population.member(_states(it, (0,)), 0), _step(it)
    for value in (0, 255, 128):
        batch = _example(it)
        after, metrics = step(state, batch | {"x": jnp.full_like(batch["x"], value)})
        chex.assert_tree_all_finite((metrics, after.variables))


def players_keep_apart(it: Subject) -> None:
    """A player's update does not change where the other players' losses are scaled."""
    model = it.recipe.stages[0].model
    state = population.member(_states(it, (0,)), 0)

    def updated(player: str, factor: float) -> Any:
        def objective(*args: Any, **kwargs: Any) -> Any:
            outcome = model.objective(*args, **kwargs)
            losses = {name: loss if name == player else factor * loss for name, loss in outcome.losses.items()}
            return outcome._replace(losses=losses)

        stepper = algorithm.gradient_algorithm(model._replace(objective=objective), optimizer="sgd")
        start = stepper.init(jax.random.key(0), population.member(it.hparams, 0), _inputs(it))
        return jax.jit(stepper.step)(start, _inputs(it))[0].variables.params[player]

    for player in state.variables.params:
        _equal(updated(player, 1.0), updated(player, 3.0))


def stable_state(it: Subject) -> None:
    """A step keeps the state's structure, shapes and dtypes."""
    state = population.member_shapes(jax.eval_shape(lambda: _states(it, (0,))))
    after, metrics = jax.eval_shape(it.algorithm.step, state, _example(it))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(metric.shape == () for metric in metrics.values()), f"metrics of a step are scalars, got {metrics}"


def shapes(it: Subject) -> None:
    """encode, decode and sample work, also for odd image sizes and one or three channels, by every network."""
    for shape, network in (((9, 11, 1), "mlp"), ((13, 8, 3), "mlp"), ((9, 11, 3), "conv")):
        changes = {"network": network} if hasattr(models.module(it.name).Config, "network") else {}
        other = subject(it.name, shape, **changes)
        variables = population.member(_states(other, (0,)), 0).variables
        hparams = resolve(population.member(other.hparams, 0), np.int32(0))
        batch, key, recipe = _inputs(other), jax.random.key(1), other.recipe
        z = recipe.encode(key, variables, hparams, batch).mean
        chex.assert_shape(recipe.decode(variables, hparams, z, batch).mean, (BATCH, *shape))
        drawn = recipe.sample(key, variables, hparams, 3, None)
        chex.assert_shape([drawn.mean, drawn.sample(key)], (3, *shape))


def bounds_tighten(it: Subject) -> None:
    """Where the model has log weights: the mean of log (1/k) sum w does not fall with k, within four standard errors."""
    if it.recipe.log_weights is None:
        return
    from vaex.bounds import importance_bound

    variables = population.member(_states(it, (0,)), 0).variables
    hparams = resolve(population.member(it.hparams, 0), np.int32(0))
    keys = jax.random.split(jax.random.key(3), 400)
    weights = jax.jit(jax.vmap(lambda key: it.recipe.log_weights(key, variables, hparams, _inputs(it), 16)))(
        keys
    )  # [400, 16, b]
    chex.assert_shape(weights, (400, 16, BATCH))
    chex.assert_tree_all_finite(weights)
    by_k = [np.mean(np.asarray(jax.vmap(importance_bound)(weights[:, :k])), axis=-1) for k in (1, 4, 16)]
    for low, high in itertools.pairwise(by_k):
        gain = high - low
        assert np.mean(gain) > -4 * np.std(gain) / np.sqrt(len(gain)), "the importance bound fell with more samples"
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


def check_model(model: str | types.ModuleType, laws: Iterable[str] = ()) -> dict[str, float]:
    """Run the laws (all by default) on a model: a name of the registry, a dotted path, or the module itself.

    Returns: law -> seconds it took.
    Raises: AssertionError, from the first law that the model breaks.
    """
    it = subject(model)
    seconds = {}
    for name in laws or LAWS:
        began = time.perf_counter()
        LAWS[name](it)
        seconds[name] = time.perf_counter() - began
    return seconds
