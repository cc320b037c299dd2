"""One experiment put together: settings, data, recipe and a run directory."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex import data, models, samplers, schedules
from vaex.configuration import needs
from vaex.configuration.run_options import DataOptions, RunOptions
from vaex.configuration.settings import Settings, replace_run
from vaex.core import Batch, PyTree, Recipe, Stage, Variables
from vaex.data.loader import streaming
from vaex.data.spec import Dataset, Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.models.conditions import example_labels
from vaex.runs.by_batch import evaluation_batch
from vaex.runs.config_file import check_recordable, run_directory
from vaex.runs.store import DirectoryStore, Store
from vaex.training import population, profiling, sharding
from vaex.training.hyperparameters import alike_schedules

READING = ("layout", "kind", "value_range", "first_label")  # data options that say how a user's arrays are read


class Experiment(NamedTuple):
    """Settings with their data and functions. ``hparams`` are stacked over members; ``stage_steps``: where each stage ends."""

    settings: Settings
    store: Store
    dataset: Dataset
    spec: Spec
    recipe: Recipe
    hparams: PyTree
    stage_steps: tuple[int, ...]
    data_path: str | None = None  # name or path by which the data can be loaded again
    own_data: bool = True  # whether the run is trained on the data set's training split
    changes: tuple[Mapping[str, Any], ...] = ()  # of hyperparameters, as config.json records them
    given: Mapping[str, Mapping[str, jax.Array]] = {}  # stage -> name -> variables that it begins with, stacked

    @property
    def steps(self) -> int:
        """Number of steps of the first stage."""
        return self.stage_steps[0]

    @property
    def later_steps(self) -> dict[str, int]:
        """Stage -> steps of the stages after the first."""
        return {stage.name: steps for stage, steps in list(zip(self.recipe.stages, self.stage_steps, strict=True))[1:]}

    def place(self, stage: int) -> str:
        """Return the name by which the store knows a stage, counted from 0."""
        return stage_place(self.recipe, stage)


def check_sampler(kind: str, recipe: Recipe) -> None:
    """Raise UserError for a kind of sampler that there is not, or that cannot be fitted to codes of this model."""
    name, _ = samplers.check_kind(kind)
    blocks = [block.kind for block in recipe.latents]
    if blocks == ["sphere"] and name != "hypersphere":
        raise UserError(f"sampler {kind!r}: leaves the sphere on which this model's codes lie; use hypersphere")
    if blocks != ["sphere"] and not set(blocks) <= {"normal", "free"}:
        kinds = " and ".join(sorted(set(blocks)))
        raise UserError(f"sampler {kind!r}: this model's codes are {kinds}, expected real numbers; use its own prior")


def stage_place(recipe: Recipe, stage: int) -> str:
    """Return the name by which a store knows a stage: "" for the first one, its own for later ones."""
    return recipe.stages[stage].name if stage else ""


def resolve_spec(settings: Settings, spec: Spec) -> Spec:
    """The spec with the treatment of values that the flags and the likelihood want, and the number of labels kept."""
    name, flags = getattr(settings.config, "likelihood", None), settings.data
    binarize = flags.binarize
    if binarize == "auto":
        binarize = "none" if name is None else likelihoods.binarization(name, spec, dequantize=flags.dequantize)
    spec = spec._replace(num_labelled=flags.labels or 0)
    return data.resolve(spec, binarize=binarize, dequantize=flags.dequantize, standardize=flags.standardize)


def with_earlier_default(settings: Settings, spec: Spec) -> Settings:
    """Return the settings of a run from before data was measured, with the likelihood that "auto" stood for then."""
    name = getattr(settings.config, "likelihood", None)
    if name != "auto":
        return settings
    config = dataclasses.replace(settings.config, likelihood=likelihoods.chosen_before(name, spec))
    return settings._replace(config=config)


def standardized_as_recorded(content: Mapping[str, Any]) -> dict[str, Any]:
    """The identity in the content of a config.json, in which ``standardize`` is "none" for real numbers that never were."""
    never = content["data"].get("kind") == "real" and not content["data"].get("location")
    return {**({"standardize": "none"} if never else {}), **content["identity"]}


def build_recipe(settings: Settings, spec: Spec) -> Recipe:
    """The model's recipe for data of this spec.

    Raises: UserError for images where the model reads sequences, or the other way round, and for stages that don't fit together.
    """
    sequences, reads = len(spec.shape) == 4 and not spec.volume, models.frames(settings.module) is not None
    if sequences != reads and not (reads and len(spec.shape) == 2):
        problem, remedy = (
            "is for images and vectors",
            "--model=td_vae or sequence_vae, or read volumes with --kind=volume",
        )
        if not sequences:
            problem, remedy = (
                "reads sequences",
                "--dataset=bouncing_sprites, series of your own with --kind=series, or a model of images",
            )
        raise UserError(
            f"--model={settings.model} {problem}, and {spec.name} has examples of shape {spec.shape}; use {remedy}"
        )
    recipe = settings.module.build(settings.config, spec)
    names = [stage.name for stage in recipe.stages]
    unknown = sorted(set(settings.stage_steps) - set(names[1:]))
    if not names or len(set(names)) < len(names) or unknown:
        problem = f"DEFAULTS[{unknown[0] + '_steps'!r}] names none of them" if unknown else "expected different names"
        raise UserError(
            f"--model={settings.model}: its recipe has the stages {', '.join(names) or '(none)'}; {problem}"
        )
    for stage in recipe.stages[1:]:
        given = settings.stage_steps.get(stage.name, stage.steps)
        if stage.steps is not None and given != stage.steps:
            raise UserError(
                f"--{stage.name}_steps={given}: the stage takes {stage.steps} steps, whatever the others take; leave it out"
            )
    return recipe


def refuse_idle(settings: Settings, spec: Spec) -> None:
    """Raise UserError for options and hyperparameters that differ from their defaults and would do nothing in a new run.

    Runs from before, which may have such, load and continue.
    """
    _refuse_idle_likelihood(settings.config, spec)
    needs.refuse_idle(settings)
    likelihood, scale = (getattr(settings.config, option, None) for option in ("likelihood", "likelihood_scale"))
    changed = [field.name for field in needs.changed(settings)]
    if "sigma" in changed and scale not in (None, "fixed") and likelihoods.is_named(likelihood):
        raise UserError(
            f"--sigma does nothing beside --likelihood_scale={scale}: it is for --likelihood_scale=fixed; leave it out"
        )


def _refuse_idle_likelihood(config: object, spec: Spec) -> None:
    """Raise UserError for options of likelihoods that the chosen one does not have."""
    name, scale = (getattr(config, option, None) for option in ("likelihood", "likelihood_scale"))
    if name is None or scale is None:
        return
    named = likelihoods.choose(name, spec) if likelihoods.is_named(name) else None
    chosen = "your own likelihood" if named is None else f"--likelihood={named}"
    options = (
        ("likelihood_scale", scale, "global", likelihoods.SCALED),
        ("mean", getattr(config, "mean", "free"), "free", likelihoods.WITH_MEAN),
    )
    for option, value, default, names in options:
        if value != default and named not in names:
            raise UserError(
                f"--{option}={value} does nothing beside {chosen}: it is for {', '.join(names)}; leave it out"
            )


def stack_hparams(settings: Settings) -> PyTree:
    """The members' hyperparameters as one tree of schedules with leading axis [p]."""
    return population.stack(alike_schedules([member.hparams for member in settings.members]))


def assemble(settings: Settings, dataset: Dataset | None = None, store: Store | None = None) -> Experiment:
    """Load the data and build the recipe; all that a user can get wrong is found here, before anything is compiled.

    Args:
      settings: checked.
      dataset: the data where it is at hand; by default that of the settings is loaded.
      store: where the run is kept; by default the run directory of the settings.
    Raises: UserError.
    """
    flags = settings.data
    if store is None or store.directory is not None:
        check_recordable(settings)
    path = flags.dataset if dataset is None else None
    dataset = load_dataset(flags) if dataset is None else dataset
    spec = resolve_spec(settings, dataset.spec)
    examples = dataset.num_training_examples
    batch_size = settings.run.batch_size or _default_batch_size(settings, dataset)
    if 0 < examples < batch_size:
        raise UserError(
            f"--batch_size={batch_size} is larger than the training data of {examples} examples; give at most {examples}"
        )
    settings = replace_run(settings, batch_size=batch_size)
    steps = _steps(settings.run, examples, batch_size)
    if settings.run.profile:
        profiling.check_steps(steps)
        if store is not None and store.directory is None:
            raise UserError("--profile writes into the run directory; give out=")
    _check_augmentation(flags, spec)
    available = jax.device_count()
    if settings.run.devices is not None and settings.run.devices > available:
        raise UserError(f"--devices={settings.run.devices}: this machine has {available}")
    recipe = build_recipe(settings, spec)
    if settings.evaluation.sampler is not None:
        check_sampler(settings.evaluation.sampler, recipe)
    evaluated = len(dataset.splits.get(settings.evaluation.eval_split, {}).get("x", ()))
    check_vocabulary(recipe, batch_size, min(evaluated, evaluation_batch(spec)))
    if spec.missing:
        check_missing(settings, recipe, dataset, spec)
    later = (_later_steps(stage, settings, steps) for stage in recipe.stages[1:])
    store = DirectoryStore(run_directory(settings)) if store is None else store
    return Experiment(settings, store, dataset, spec, recipe, stack_hparams(settings), (steps, *later), path)


def check_vocabulary(recipe: Recipe, batch_size: int, evaluated: int) -> None:
    """Compare the logits of integer codes under their prior, [b, n, classes] float32, with the memory.

    Args:
      recipe: of the model.
      batch_size: examples of a step, of which logits and their gradient are held.
      evaluated: examples that are evaluated at a time, of which logits are held.
    Raises: UserError where they do not fit, with the estimate: a lower bound of what the run would take.
    """
    if not (blocks := [block for block in recipe.latents if block.kind == "code"]):
        return
    free = streaming.free_memory()
    logits = 4 * sum(block.size * block.classes for block in blocks) / sharding.memories()
    in_training, in_evaluation = 2 * batch_size * logits, evaluated * logits
    if max(in_training, in_evaluation) <= free:
        return
    n, classes = sum(block.size for block in blocks), max(block.classes for block in blocks)
    if in_training > in_evaluation:
        held, remedy = f"{batch_size} examples and their gradient", ", a smaller --batch_size"
    else:
        held, remedy = f"the {evaluated} examples that are evaluated at a time", ""
    raise UserError(
        f"the prior of {n} codes, each one of {classes}, has logits [b, {n}, {classes}]: those of {held} take at least "
        f"{max(in_training, in_evaluation) / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free; give fewer --codes (or --levels), "
        f"several codebooks, a larger --downsampling{remedy}"
    )


def check_missing(settings: Settings, recipe: Recipe, dataset: Dataset, spec: Spec) -> None:
    """Evaluate the first stage's objective on an example with missing values, and on one without any observed.

    Raises: UserError where a loss or a parameter is not a number, as of objectives that read missing values of x.
    """
    x = np.asarray(dataset.splits["train"]["x"][: settings.run.batch_size])
    x = np.concatenate([x[:1], np.full_like(x[:1], np.nan)])  # nothing observed is the hardest case
    batch = {"x": x, **example_labels(spec, 2)}
    key, model, hparams = jax.random.key(0), recipe.stages[0].model, settings.members[0].hparams

    def begun(batch: Batch) -> tuple[Variables, dict[str, jax.Array]]:
        variables, at_start = model.init(key, batch), schedules.resolve(hparams, jnp.zeros((), jnp.int32))
        return variables, model.objective(key, variables, at_start, batch, train=True).losses

    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.jit(begun)(batch))):
        raise UserError(
            f"--model={settings.model}: its objective needs every value of an example, and {spec.name} has missing ones; use "
            "--model=vae or iwae, or fill them in"
        )


def _later_steps(stage: Stage, settings: Settings, first: int) -> int:
    """Return the number of steps of a later stage: its own, or those of the settings, or else those of the first stage."""
    return settings.stage_steps.get(stage.name, first) if stage.steps is None else stage.steps


def _default_batch_size(settings: Settings, dataset: Dataset) -> int:
    if dataset.source is not None and dataset.source.batch_size is not None:
        return dataset.source.batch_size
    return min(settings.defaults["batch_size"], dataset.num_training_examples)


def load_dataset(options: DataOptions) -> Dataset:
    """Load the data set that the options name."""
    return data.load(
        options.dataset or "",
        data_dir=options.data_dir,
        manual_dir=options.manual_dir,
        image_size=options.image_size,
        sequence_length=options.sequence_length,
        columns=options.columns,
        label_column=options.label_column,
        transparency=options.transparency,
        skip_unreadable=options.skip_unreadable,
        **reading_of(options),
    )


def reading_of(options: DataOptions) -> dict[str, Any]:
    """Return the arguments of ``vaex.data.load`` that say how a user's arrays are read."""
    return {name: getattr(options, name) for name in READING}


def as_dataset(source: object, reading: Mapping[str, Any] | None = None, **loading: Any) -> Dataset:
    """Return a data set from what a user passes: a ``Dataset``, an array, a mapping of arrays, a data frame, a name or a path.

    Args:
      source: the data.
      reading: options of which those of ``READING`` say how arrays are read.
      **loading: other arguments of ``vaex.data.load``; None where not given.
    Raises: UserError for data that cannot be used, for a reading of a ``Dataset``, whose axes are read already, and for arguments
      of loading beside data that is not loaded by name.
    """
    loading = {name: value for name, value in loading.items() if value is not None}
    reading = {name: reading[name] for name in READING if name in reading} if reading else {}
    if isinstance(source, str | os.PathLike):
        return data.load(os.fspath(source), **reading, **loading)
    if hasattr(source, "items") and not isinstance(source, Mapping) and set(loading) <= {"columns", "label_column"}:
        return Dataset.from_table(source, **loading)
    if loading:
        raise UserError(
            f"{next(iter(loading))} is for data that is loaded by name; leave it out, or give the name as data"
        )
    if isinstance(source, Dataset):
        if given := [name for name, value in reading.items() if value not in ("auto", 0)]:
            raise UserError(
                f"{given[0]}={reading[given[0]]!r} is for arrays; give it to Dataset.from_arrays or Dataset.from_batches"
            )
        return source
    if isinstance(source, tuple) and len(source) == 2:
        return Dataset.from_arrays(*source, **reading)
    return Dataset.from_arrays(source, **reading)  # pyright: ignore[reportArgumentType]: whatever numpy.asarray takes


def _steps(run: RunOptions, examples: int, batch_size: int) -> int:
    """Return the number of steps of the first stage."""
    if run.epochs and not examples:
        raise UserError(
            "--epochs: the number of examples of these batches is not known; give --steps, or examples_per_epoch"
        )
    steps = run.steps or math.ceil(min((run.epochs or 0) * examples / batch_size, 2.0**31))
    if steps >= 2**31:
        raise UserError(
            f"--epochs={run.epochs:g}: expected at most {2**31 * batch_size // examples} epochs (2^31 steps)"
        )
    return steps


def _check_augmentation(options: DataOptions, spec: Spec) -> None:
    if (options.flip or options.crop) and len(spec.shape) != 3:
        raise UserError(
            f"--flip and --crop are for images, and {spec.name} has examples of shape {spec.shape}; leave them out"
        )
    if options.crop and options.crop >= min(spec.shape[:2]):
        raise UserError(f"--crop={options.crop}: expected less than the side of the images, {spec.shape}")
