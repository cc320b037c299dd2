"""The laws that every model keeps, for vaex's own and for yours: ``check_model("my_package.my_module")``.

Each law takes a ``Subject`` (a model on its TINY config and small random images) and raises AssertionError where the model
breaks it. Sharding laws use as many devices as there are (eight virtual ones in vaex's own tests).
"""

from __future__ import annotations

import contextlib
import pathlib
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex import data, experiment, models, trainer
from vaex.config import Member, Settings
from vaex.core import Algorithm, Feed, Outcome, Recipe
from vaex.data.spec import Spec
from vaex.flags import DataFlags, EvaluationFlags, RunFlags
from vaex.schedules import resolve
from vaex.training import loop, mesh, population
from vaex.training.checkpoint import Checkpoints

BATCH = 8
EXAMPLES = 32
STEPS = 20
QUICK = "jax_disable_most_optimizations"


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
    module: Any


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
    stepper = trainer.stage_algorithm(recipe.stages[0], spec)
    feed = data.resident_feed(arrays, BATCH, 0)
    return Subject(module.__name__, recipe, spec, stepper, arrays, feed, experiment.stack_hparams(settings), {}, module)


@contextlib.contextmanager
def _quickly() -> Iterator[None]:
    """On CPU, programs compiled in the block pass by LLVM's optimiser, which takes half the time. Only for laws with a tolerance
    and for comparisons of one program with itself: the optimiser rounds differently from one program to the next."""
    before = jax.config.read(QUICK)
    jax.config.update(QUICK, before or jax.default_backend() == "cpu")
    try:
        yield
    finally:
        jax.config.update(QUICK, before)


def _example(it: Subject) -> dict[str, jax.Array]:
    return {name: jnp.asarray(values[:BATCH]) for name, values in it.arrays.items()}


def _inputs(it: Subject) -> dict[str, jax.Array]:
    """Eight examples as model inputs."""
    batch = _example(it)
    return batch | {"x": data.prepare(it.spec, jax.random.key(7), batch["x"])}


def _states(it: Subject, members: tuple[int, ...] = (0, 1)) -> Any:
    """First states of the members, made anew each time, since training donates them."""
    hparams = jax.tree.map(lambda leaf: leaf[np.asarray(members)], it.hparams)
    return population.init(it.algorithm, members, hparams, _example(it))


_member = jax.jit(population.member)


def _first(it: Subject, index: int = 0) -> Any:
    """The first state of one member."""
    if ("first", index) not in it.cache:
        it.cache["first", index] = _member(_states(it, (index,)), 0)
    return it.cache["first", index]


def _hparams(it: Subject) -> Any:
    """Hyperparameters of the first member at the first step."""
    return resolve(population.member(it.hparams, 0), np.int32(0))


def _step(it: Subject) -> Any:
    """The algorithm's step, compiled alone; it may be traced once (chex's own counter is shared by all models)."""
    if "step" not in it.cache:
        traces = []

        def step(state: Any, batch: Any) -> Any:
            traces.append(batch)
            assert len(traces) == 1, "the step was traced again; does it change a dtype or a weak type of its state?"
            return it.algorithm.step(state, batch)

        it.cache["step"] = jax.jit(step)
    return it.cache["step"]


def _run(
    it: Subject, members: tuple[int, ...], strategy: str, *, chunks: tuple[int, ...] = (STEPS,), devices: int = 1
) -> Any:
    """The program, and the carry and the rows after the given chunks of steps; all kept, the carry not to be donated."""
    name = (members, strategy, devices)
    placement = mesh.choose(len(members), BATCH, devices)
    program = ("program", len(members), strategy, devices)
    exact = placement is None and strategy != "vmap"  # its bits are compared, so it is compiled as users compile it
    if (name, chunks) not in it.cache:
        states = _states(it, members)
        if program not in it.cache:
            with contextlib.nullcontext() if exact else _quickly():
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


def _one(tree: Any, index: int) -> Any:
    """One member's arrays; cut in NumPy, which compiles nothing."""
    return population.member(_values(tree), index)


def _equal(a: Any, b: Any) -> None:
    chex.assert_trees_all_equal(_values(a), _values(b))


def _close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    chex.assert_trees_all_close(_values(a), _values(b), rtol=tolerance, atol=tolerance)


# --- the laws -----------------------------------------------------------------------------------------------------


def one_trace(it: Subject) -> None:
    """Hyperparameters are traced: other values recompile nothing, and a program of any number of steps traces one."""
    for index in range(2):
        _step(it)(_first(it, index), _example(it))
    traces = _run(it, (0,), "solo")[0].step_traces
    assert traces == 1, f"a program traced the step {traces} times"


def chunks_are_invisible(it: Subject) -> None:
    """Any cut of the steps into chunks gives the same bits, and a plain Python loop over the step the same numbers."""
    _, whole, rows = _run(it, (0,), "solo")
    _, cut, other_rows = _run(it, (0,), "solo", chunks=(1, 2, 10, 7))
    _equal(whole, cut)
    _equal(rows, other_rows)
    state, step = _first(it), _step(it)
    for index in range(STEPS):
        row = jax.tree.map(lambda leaf, i=index: leaf[i], it.feed.plan(0, STEPS))
        state, _ = step(state, it.feed.batch(it.feed.resident, row))
    _close(state, _one(whole.state, 0))


def members_equal_solo_runs(it: Subject) -> None:
    """A member of a population equals its solo run: bit for bit one after the other, within 1e-5 at once."""
    solo = [_run(it, (index,), "solo")[1] for index in (0, 1)]
    for strategy, compare in (("vmap", _close), ("members", _equal)):
        carry = _run(it, (0, 1), strategy)[1]
        for index in (0, 1):
            compare(_one(carry, index), _one(solo[index], 0))


def resume_is_exact(it: Subject) -> None:
    """Training from a checkpoint gives the bits of training that never stopped, the running window of metrics included."""
    program, first, _ = _run(it, (0,), "solo", chunks=(7,))
    restored = _through_checkpoint(first, first)
    resumed, _ = loop.run_chunk(program, restored, 7, STEPS)  # donates what was restored, not what is kept
    _equal(resumed, _run(it, (0,), "solo")[1])


def _through_checkpoint(carry: Any, template: Any) -> Any:
    """``carry`` saved and restored like ``template``, bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(pathlib.Path(folder))
        checkpoints.save(STEPS, carry)
        restored = checkpoints.restore(template)
        checkpoints.close()
    _equal(restored, carry)
    return restored


def sharding_changes_nothing(it: Subject) -> None:
    """Divided over devices by member or by batch, training gives the same numbers; a checkpoint moves between the two."""
    solo = [_run(it, (index,), "solo")[1] for index in (0, 1)]
    for strategy, members, devices in (("members", (0, 1), 2), ("solo", (0,), 8)):
        carry = _run(it, members, strategy, devices=min(devices, jax.device_count()))[1]
        for index in members:
            _close(_one(carry, index), _one(solo[index], 0))
        if len(members) > 1:
            alone = _through_checkpoint(carry, jax.eval_shape(lambda c: c, carry))
            back = _through_checkpoint(alone, carry)
            placed = [leaf.sharding for leaf in jax.tree.leaves(carry)]
            assert [leaf.sharding for leaf in jax.tree.leaves(back)] == placed, "a checkpoint lost its placement"


def finite_gradients(it: Subject) -> None:
    """Black, white and constant images give finite losses, and parameters that stay finite."""
    step = _step(it)
    for value in (0, 255, 128):
        state, batch = _first(it), _example(it)
        for _ in range(3):
            state, metrics = step(state, batch | {"x": np.full_like(batch["x"], value)})
            assert metrics["finite"] == 1, f"images of the constant {value} give {metrics}"
            chex.assert_tree_all_finite(_values((metrics, state.variables)))


def players_keep_apart(it: Subject) -> None:
    """A player's update, by the model's own algorithm, does not change where the other players' losses are scaled."""
    players = tuple(_first(it).variables.params)
    if len(players) == 1:
        return
    original = Outcome.__new__

    @jax.jit
    def updated(factors: dict[str, jax.Array], state: Any, batch: Any) -> Any:
        def scaled(cls: type, losses: Any, *rest: Any, **named: Any) -> Any:
            return original(cls, {name: factors[name] * loss for name, loss in losses.items()}, *rest, **named)

        with mock.patch.object(Outcome, "__new__", scaled):  # reaches objectives that an algorithm has closed over
            return it.algorithm.step(state, batch)[0].variables.params

    with _quickly():
        before = updated({name: np.float32(1) for name in players}, _first(it), _example(it))
    for player in players:
        factors = {name: np.float32(1 if name == player else 3) for name in players}
        _equal(updated(factors, _first(it), _example(it))[player], before[player])


def stable_state(it: Subject) -> None:
    """A step keeps the state's structure, shapes and dtypes."""
    state = jax.eval_shape(lambda: _first(it))
    after, metrics = jax.eval_shape(it.algorithm.step, state, _example(it))
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert all(metric.shape == () for metric in metrics.values()), f"metrics of a step are scalars, got {metrics}"


def shapes(it: Subject) -> None:
    """encode, decode and sample fit odd image sizes and one or three channels by every network, and give finite values."""
    for shape, network in (((9, 11, 1), "mlp"), ((13, 8, 3), "mlp"), ((9, 11, 3), "conv")):
        changes = {"network": network} if hasattr(it.module.Config, "network") else {}
        other = subject(it.module, shape, **changes)
        variables = jax.eval_shape(lambda one=other: population.member(_states(one, (0,)), 0).variables)
        z, *pictures = jax.eval_shape(lambda v, one=other: _used(one, v), variables)
        _check_shapes(z, pictures, shape)
    variables = _first(it).variables
    with _quickly():
        z, *pictures = jax.jit(lambda v: _used(it, v))(variables)
    _check_shapes(z, pictures, it.spec.shape)
    chex.assert_tree_all_finite(_values((z, pictures)))


def _used(it: Subject, variables: Any) -> tuple[Any, Any, Any, Any]:
    """Codes, reconstructions, and the means and draws of three samples."""
    hparams, key, recipe = _hparams(it), jax.random.key(1), it.recipe
    batch = _inputs(it)
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
    standard errors."""
    log_weights = it.recipe.log_weights
    if log_weights is None:
        return
    variables = _first(it).variables

    def draw(index: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(jax.random.key(3), index)
        hparams, batch = _hparams(it), _inputs(it)
        outcome = it.recipe.stages[0].model.objective(key, variables, hparams, batch, train=False)
        weights = log_weights(jax.random.fold_in(key, 1), variables, hparams, batch, 16)
        return jnp.mean(outcome.metrics.get("elbo", -jnp.inf)), weights

    with _quickly():
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
