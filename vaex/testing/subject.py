"""Subjects of the laws: a stage of a model on its TINY config and small random images, with runs of it that the laws share."""

from __future__ import annotations

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from vaex import data, models
from vaex.configuration.settings import Member, Settings, settings
from vaex.data.spec import Dataset, Spec
from vaex.runs import setup, train
from vaex.runs.fitted.states import with_fitted_state
from vaex.runs.store import MemoryStore
from vaex.schedules import ramp, resolve
from vaex.training import loop, population, sharding
from vaex.training.step import averaged_variables

if TYPE_CHECKING:
    from vaex.core import Algorithm, Batch, Feed, Recipe, TrainState, Variables

BATCH = 8
EXAMPLES = 32
STEPS = 20
QUICK = "jax_disable_most_optimizations"


class NothingToCheck(Exception):
    """Raised by a law that a model cannot break: there is nothing in it that the law is about. The message says what is missing."""


class TrainingRun(NamedTuple):
    """A compiled program, and what it gave after some chunks of steps.

    ``carry``: the last one, shared and so not to be donated. ``rows``: metrics, [members, rows, metrics].
    """

    program: loop.Program
    carry: loop.Carry
    rows: np.ndarray


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


_member = jax.jit(population.member)


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A stage of a model on small data, and two members that differ in their seed and learning rate.

    Attributes:
      settings: the model with its TINY config, and both members.
      recipe, spec: of the model and the data.
      algorithm: the stage's, on batches as stored.
      arrays, feed: the examples, as a data set holds them and as batches.
      hparams: stacked over members.
      stage: counted from 0.
      finished: stage -> stacked variables of the stages before, as they begin.
      fits_any_shape: whether images of other shapes are tried as well.
      cache: compiled programs and finished runs, which the laws share.
    """

    settings: Settings
    recipe: Recipe
    spec: Spec
    algorithm: Algorithm
    arrays: dict[str, np.ndarray]
    feed: Feed
    hparams: Any
    stage: int = 0
    finished: Mapping[str, Variables] = dataclasses.field(default_factory=dict)
    fits_any_shape: bool = True
    cache: dict[Any, Any] = dataclasses.field(default_factory=dict)

    def require_last_stage(self, purpose: str) -> None:
        """Raise ``NothingToCheck`` unless the recipe's own functions may be called with this stage's variables.

        Args:
          purpose: what takes the variables of the last stage.
        """
        last = self.recipe.stages[-1].name
        if self.stage + 1 < len(self.recipe.stages):
            raise NothingToCheck(f"{purpose} takes the variables of the last stage, {last}")

    def stored_batch(self) -> Batch:
        """Return the first batch as stored."""
        return {name: jnp.asarray(values[:BATCH]) for name, values in self.arrays.items()}

    def input_batch(self) -> Batch:
        """Return the first batch as model inputs."""
        return self.inputs_of(self.stored_batch())

    def inputs_of(self, batch: Batch) -> Batch:
        """Return a batch of stored values as model inputs."""
        return batch | {"x": data.prepare(self.spec, jax.random.key(7), batch["x"])}

    def first_states(self, members: tuple[int, ...] = (0, 1)) -> TrainState:
        """Return stacked first states of the members, new ones each time, since training donates them."""
        hparams = jax.tree.map(lambda leaf: leaf[np.asarray(members)], self.hparams)
        finished = jax.tree.map(lambda leaf: leaf[np.asarray(members)], self.finished)
        carry_over = self.recipe.stages[self.stage].carry_over
        with quickly():  # all laws begin with the same bits, and the programs that draw them take long to compile
            state = population.init(
                self.algorithm,
                members,
                hparams,
                self.stored_batch(),
                stage=self.stage,
                carry_over=carry_over,
                finished=finished,
            )
            return self._with_fitted_state(members, state)

    def _with_fitted_state(self, members: tuple[int, ...], state: TrainState) -> TrainState:
        """Return first states with what the stage computes of the examples, once for all laws; shapes need none of that."""
        if self.recipe.stages[self.stage].fit_state is None or isinstance(state.step, Tracer):
            return state
        if ("fitted", members) not in self.cache:
            dataset = Dataset({"train": self.arrays}, self.spec)
            steps = (STEPS,) * len(self.recipe.stages)
            run = setup.Experiment(self.settings, MemoryStore(), dataset, self.spec, self.recipe, self.hparams, steps)
            fitted = with_fitted_state(run, self.stage, members, state).variables.state
            self.cache["fitted", members] = jax.tree.map(np.asarray, fitted)
        fitted = jax.tree.map(jnp.array, self.cache["fitted", members])
        return state._replace(variables=state.variables._replace(state=fitted))

    def states_after(self, members: tuple[int, ...] = (0, 1)) -> Callable[[Mapping[str, Variables]], TrainState]:
        """Return a function for tracing: variables of the stages before -> stacked first states of the members."""
        return lambda finished: dataclasses.replace(self, finished=finished).first_states(members)

    def first_state(self, index: int = 0) -> TrainState:
        """Return the first state of one member."""
        if ("first", index) not in self.cache:
            self.cache["first", index] = _member(self.first_states((index,)), 0)
        return self.cache["first", index]

    def first_hparams(self) -> Any:
        """Return the hyperparameters of the first member at the first step."""
        return resolve(population.member(self.hparams, 0), np.int32(0))

    def compiled_step(self) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
        """Return the algorithm's step, compiled alone and quickly; it may be traced once (chex's own counter is shared by all
        models)."""
        if "step" not in self.cache:
            traces = []

            def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
                traces.append(batch)
                assert len(traces) == 1, (
                    "the step was traced again; does it change a dtype or a weak type of its state?"
                )
                return self.algorithm.step(state, batch)

            self.cache["step"] = jax.jit(step)
            with quickly():  # it compiles here
                self.cache["step"](self.first_state(), self.stored_batch())
        return self.cache["step"]

    def trained(
        self,
        members: tuple[int, ...],
        strategy: str,
        *,
        chunks: tuple[int, ...] = (STEPS,),
        devices: int = 1,
        rounded: bool = False,
    ) -> TrainingRun:
        """Train members in chunks of steps, or return the run that did so before.

        ``rounded``: from first parameters that are off by one rounding.
        """
        name = (members, strategy, devices, rounded)
        if (name, chunks) not in self.cache:
            program, carry = self._program(members, strategy, devices)
            carry = _with_rounded_parameters(carry) if rounded else carry
            rows, step = [], 0
            for length in chunks:
                carry, chunk = loop.run_chunk(program, carry, step, step + length)
                rows.append(chunk.rows)
                step += length
            self.cache[name, chunks] = TrainingRun(program, carry, np.concatenate(rows, axis=1))
        return self.cache[name, chunks]

    def _program(self, members: tuple[int, ...], strategy: str, devices: int) -> tuple[loop.Program, loop.Carry]:
        """Return the program for so many members, compiled once, and the first carry."""
        name = ("program", len(members), strategy, devices)
        placement = sharding.choose(len(members), BATCH, devices)
        states = self.first_states(members)
        if name not in self.cache:
            # as users compile where bits are compared; members at once, and what is divided, are compared within a tolerance
            with contextlib.nullcontext() if placement is None and strategy != "vmap" else quickly():
                self.cache[name], carry = loop.compile_program(
                    self.algorithm, self.feed, states, log_every=5, strategy=strategy, placement=placement
                )
            return self.cache[name], carry
        window = jnp.zeros((len(members), len(self.cache[name].metric_names)), jnp.float32)
        return self.cache[name], sharding.place(loop.Carry(states, window), placement, members=True)


def _with_rounded_parameters(carry: loop.Carry) -> loop.Carry:
    """Parameters, every other one a rounding larger, the rest a rounding smaller."""

    def rounded(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        signs = np.where(np.arange(leaf.size) % 2, 1.0, -1.0).reshape(leaf.shape)
        return (leaf * (1.0 + signs * jnp.finfo(leaf.dtype).eps)).astype(leaf.dtype)

    variables = carry.state.variables
    variables = variables._replace(params=jax.tree.map(rounded, variables.params))
    return carry._replace(state=carry.state._replace(variables=variables))


def random_images(shape: tuple[int, ...], count: int = EXAMPLES) -> dict[str, np.ndarray]:
    """Random grey or colour images, or sequences of them (uint8), with labels, the same each time."""
    rng = np.random.default_rng(0)
    return {"x": rng.integers(0, 256, (count, *shape), np.uint8), "y": rng.integers(0, 10, count).astype(np.int32)}


def build_subject(model: str | types.ModuleType, shape: tuple[int, ...] | None = None, **options: Any) -> Subject:
    """Build the first stage of a model; arguments as for ``build_subjects``."""
    return build_subjects(model, shape, **options)[0]


def build_subjects(
    model: str | types.ModuleType, shape: tuple[int, ...] | None = None, *, abstract: bool = False, **options: Any
) -> list[Subject]:
    """Build a subject of each stage of a model.

    Args:
      model: a name of the registry, a dotted path, or the module itself.
      shape: of an image; by default ``SHAPE`` of the module, the only one that its networks fit, or else (8, 8, 1). A model of
        sequences gets sequences of some of them.
      abstract: take shapes alone for what the stages before have learned, which computes nothing.
      options: fields of the model's ``Config`` that differ from its TINY config.
    """
    module = models.module(model) if isinstance(model, str) else model
    tiny = _settings(module, **options)
    only, length = getattr(module, "SHAPE", None), models.frames(module)
    image: tuple[int, ...] = shape or only or (8, 8, 1)
    shape = image if length is None else (length, *image)
    fits_any_shape = only is None and not any(options.get(name) for name in ("encoder", "decoder"))
    kind = "grey" if shape[-1] == 1 else "color"
    raw = Spec("random", shape, kind, levels=256, num_classes=10, num_training_examples=EXAMPLES)
    raw = raw._replace(binarization_noise=0.0)  # grey images are binarised, as those of most runs
    spec = setup.resolve_spec(tiny, raw)
    recipe = setup.build_recipe(tiny, spec)
    arrays = random_images(shape)
    feed = data.resident_feed(arrays, BATCH, 0)
    hparams = setup.stack_hparams(tiny)
    finished: dict[str, Variables] = {}
    subjects = []
    for index, stage in enumerate(recipe.stages):
        algorithm = train.stage_algorithm(stage, spec)
        subject = Subject(
            tiny, recipe, spec, algorithm, arrays, feed, hparams, index, dict(finished), fits_any_shape=fits_any_shape
        )
        subjects.append(subject)
        if index + 1 < len(recipe.stages):
            state = jax.eval_shape(subject.states_after(), subject.finished) if abstract else subject.first_states()
            finished[stage.name] = averaged_variables(state)
    return subjects


def _settings(module: types.ModuleType, **options: Any) -> Settings:
    """Settings of the model's TINY config with these options changed, and of two members."""
    tiny = dict(getattr(module, "TINY", {}))
    if options.get("encoder") is not None and options.get("decoder") is not None:  # sizes of ours then do nothing
        tiny = {name: value for name, value in tiny.items() if name not in module.Config().unused_beside_own()}
    config = module.Config(**tiny | options)
    members = (Member(0, module.HParams()), Member(1, module.HParams(learning_rate=ramp(0.003, 0.001, 10))))
    return settings(module.__name__, module, config=config)._replace(members=members, varied=("learning_rate",))
