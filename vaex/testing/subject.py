"""What the laws look at: a stage of a model on its TINY config and small random images, and runs of it that they share."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex import data, models
from vaex.configuration.flags import DataFlags, EvaluationFlags, RunFlags
from vaex.configuration.settings import Member, Settings
from vaex.core import Algorithm, Feed, Recipe, Variables
from vaex.data.spec import Spec
from vaex.runs import setup as experiment
from vaex.runs import train as trainer
from vaex.schedules import resolve
from vaex.training import loop, population
from vaex.training import sharding as mesh
from vaex.training.step import averaged_variables

BATCH = 8
EXAMPLES = 32
STEPS = 20
QUICK = "jax_disable_most_optimizations"


class Subject(NamedTuple):
    """A stage of a model on small data: recipe, algorithm on stored batches, two members that differ in the learning rate.

    ``cache`` holds compiled programs and finished runs, so that the laws share them. ``stage``: counted from 0; ``finished``: the
    stacked variables of the stages before, as they begin.
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
    stage: int = 0
    finished: Mapping[str, Variables] = {}


def images(shape: tuple[int, ...], count: int = EXAMPLES) -> dict[str, np.ndarray]:
    """Random grey or colour images, or sequences of them (uint8), with labels, the same each time."""
    rng = np.random.default_rng(0)
    return {"x": rng.integers(0, 256, (count, *shape), np.uint8), "y": rng.integers(0, 10, count).astype(np.int32)}


def subject(model: str | types.ModuleType, shape: tuple[int, ...] = (8, 8, 1), **changes: Any) -> Subject:
    """The first stage of the model on its TINY config (with ``changes``) and random images of this shape."""
    return subjects(model, shape, **changes)[0]


def subjects(
    model: str | types.ModuleType, shape: tuple[int, ...] = (8, 8, 1), *, abstract: bool = False, **changes: Any
) -> list[Subject]:
    """Each stage of the model as a subject, of images of this shape or sequences of some of them; ``abstract``: with the shapes
    alone of what the stages before have learned."""
    module = models.module(model) if isinstance(model, str) else model
    length = models.frames(module)
    shape = shape if length is None else (length, *shape)
    config = module.Config(**{**getattr(module, "TINY", {}), **changes})
    members = (Member(0, {}), Member(1, {"learning_rate": "ramp:0.003:0.001:10"}))
    settings = Settings(
        module.__name__, module, RunFlags(), DataFlags(), EvaluationFlags(), config, members, ("learning_rate",), {}
    )
    kind = "grey" if shape[-1] == 1 else "color"
    facts = Spec("random", shape, kind, levels=256, num_classes=10, num_training_examples=EXAMPLES)
    spec = experiment.resolve_spec(settings, facts)
    recipe = experiment.build_recipe(settings, spec)
    arrays = images(shape)
    feed = data.resident_feed(arrays, BATCH, 0)
    hparams, finished, found = experiment.stack_hparams(settings), {}, []
    for index, stage in enumerate(recipe.stages):
        stepper = trainer.stage_algorithm(stage, spec)
        it = Subject(module.__name__, recipe, spec, stepper, arrays, feed, hparams, {}, module, index, dict(finished))
        found.append(it)
        if index + 1 < len(recipe.stages):
            begun = jax.eval_shape(beginning(it), it.finished) if abstract else first_states(it)
            finished[stage.name] = averaged_variables(begun)
    return found


@contextlib.contextmanager
def quickly() -> Iterator[None]:
    """On CPU, programs compiled in the block pass by LLVM's optimiser, which takes half the time. Only for laws with a tolerance
    and for comparisons of one program with itself: the optimiser rounds differently from one program to the next."""
    before = jax.config.read(QUICK)
    jax.config.update(QUICK, before or jax.default_backend() == "cpu")
    try:
        yield
    finally:
        jax.config.update(QUICK, before)


def example(it: Subject) -> dict[str, jax.Array]:
    """The first batch as stored."""
    return {name: jnp.asarray(values[:BATCH]) for name, values in it.arrays.items()}


def inputs(it: Subject) -> dict[str, jax.Array]:
    """Eight examples as model inputs."""
    batch = example(it)
    return batch | {"x": data.prepare(it.spec, jax.random.key(7), batch["x"])}


def first_states(it: Subject, members: tuple[int, ...] = (0, 1)) -> Any:
    """First states of the members, made anew each time, since training donates them."""
    hparams = jax.tree.map(lambda leaf: leaf[np.asarray(members)], it.hparams)
    finished = jax.tree.map(lambda leaf: leaf[np.asarray(members)], it.finished)
    made: dict[str, Any] = {"stage": it.stage, "prepare": it.recipe.stages[it.stage].prepare, "finished": finished}
    with quickly():  # all laws begin with the same bits, and the programs that draw them take long to compile
        return population.init(it.algorithm, members, hparams, example(it), **made)


def beginning(it: Subject, members: tuple[int, ...] = (0, 1)) -> Callable[[Any], Any]:
    """What the stages before have learned -> the first states of the members, for tracing."""
    return lambda finished: first_states(it._replace(finished=finished), members)


def is_last(it: Subject) -> bool:
    """Whether the recipe's own functions, which take the last stage's variables, may be called with this stage's."""
    return it.stage == len(it.recipe.stages) - 1


_member = jax.jit(population.member)


def first_state(it: Subject, index: int = 0) -> Any:
    """The first state of one member."""
    if ("first", index) not in it.cache:
        it.cache["first", index] = _member(first_states(it, (index,)), 0)
    return it.cache["first", index]


def first_hparams(it: Subject) -> Any:
    """Hyperparameters of the first member at the first step."""
    return resolve(population.member(it.hparams, 0), np.int32(0))


def compiled_step(it: Subject) -> Any:
    """The algorithm's step, compiled alone and quickly; it may be traced once (chex's own counter is shared by all models)."""
    if "step" not in it.cache:
        traces = []

        def step(state: Any, batch: Any) -> Any:
            traces.append(batch)
            assert len(traces) == 1, "the step was traced again; does it change a dtype or a weak type of its state?"
            return it.algorithm.step(state, batch)

        it.cache["step"] = jax.jit(step)
        with quickly():  # it compiles here
            it.cache["step"](first_state(it), example(it))
    return it.cache["step"]


def trained(
    it: Subject, members: tuple[int, ...], strategy: str, *, chunks: tuple[int, ...] = (STEPS,), devices: int = 1
) -> Any:
    """The program, and the carry and the rows after the given chunks of steps; all kept, the carry not to be donated."""
    name = (members, strategy, devices)
    placement = mesh.choose(len(members), BATCH, devices)
    program = ("program", len(members), strategy, devices)
    exact = placement is None  # compiled as users do; what is divided is compared within a tolerance only
    if (name, chunks) not in it.cache:
        states = first_states(it, members)
        if program not in it.cache:
            with contextlib.nullcontext() if exact else quickly():
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


def values(tree: Any) -> Any:
    """Arrays of a tree, keys as their words, so that they can be compared."""

    def words(leaf: Any) -> np.ndarray:
        return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)

    return jax.tree.map(words, tree)


def one_member(tree: Any, index: int) -> Any:
    """One member's arrays; cut in NumPy, which compiles nothing."""
    return population.member(values(tree), index)


def equal(a: Any, b: Any) -> None:
    """Raise AssertionError unless two trees agree bit for bit."""
    chex.assert_trees_all_equal(values(a), values(b))


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    """Raise AssertionError unless two trees agree within the tolerance, relative or absolute."""
    chex.assert_trees_all_close(values(a), values(b), rtol=tolerance, atol=tolerance)
