"""One experiment put together: settings, data, recipe and a run directory."""

from __future__ import annotations

import math
import pathlib
from typing import Any, NamedTuple

import jax

from vaex import data, models
from vaex.configuration.settings import Settings, common_structure, replace_run
from vaex.core import Recipe
from vaex.data.spec import Dataset, Spec
from vaex.errors import UserError
from vaex.models import likelihoods
from vaex.runs.config_file import run_directory
from vaex.training import population, profiling
from vaex.training.hyperparameters import as_schedules


class Experiment(NamedTuple):
    """Settings with their data and functions. ``hparams`` are stacked over members; ``stage_steps``: where each stage ends."""

    settings: Settings
    directory: pathlib.Path
    dataset: Dataset
    spec: Spec
    recipe: Recipe
    hparams: Any
    stage_steps: tuple[int, ...]

    @property
    def steps(self) -> int:
        """Number of steps of the first stage."""
        return self.stage_steps[0]

    @property
    def later_steps(self) -> dict[str, int]:
        """Stage -> steps of the stages after the first."""
        return {stage.name: steps for stage, steps in list(zip(self.recipe.stages, self.stage_steps, strict=True))[1:]}

    def folder(self, stage: int) -> pathlib.Path:
        """Folder of the checkpoints and rows of a stage, counted from 0."""
        return stage_folder(self.directory, self.recipe, stage)


def stage_folder(directory: pathlib.Path, recipe: Recipe, stage: int) -> pathlib.Path:
    """The run directory itself for the first stage, ``stages/NAME`` in it for later ones."""
    return directory / "stages" / recipe.stages[stage].name if stage else directory


def resolve_spec(settings: Settings, spec: Spec) -> Spec:
    """The spec with binarisation and dequantisation as the flags and the likelihood want them."""
    name = getattr(settings.config, "likelihood", None)
    binarize = settings.data.binarize
    if binarize == "auto":
        binarize = "none" if name is None else likelihoods.binarization(likelihoods.choose(name, spec), spec)
    return data.resolve(spec, binarize=binarize, dequantize=settings.data.dequantize)


def build_recipe(settings: Settings, spec: Spec) -> Recipe:
    """The model's recipe for data of this spec.

    Raises: UserError for images where the model reads sequences, or the other way round, and for stages that don't fit together.
    """
    if (len(spec.shape) == 4) != (models.frames(settings.module) is not None):
        problem, remedy = "is for images and vectors", "--model=td_vae or sequence_vae"
        if len(spec.shape) != 4:
            problem, remedy = "reads sequences", "--dataset=bouncing_sprites or rotating_sprites, or a model of images"
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
    return recipe


def stack_hparams(settings: Settings) -> Any:
    """The members' hyperparameters as one tree of schedules with leading axis [p]."""
    members = common_structure([member.hparams for member in settings.members])
    return population.stack([as_schedules(hparams) for hparams in members])


def assemble(settings: Settings) -> Experiment:
    """Load the data and build the recipe; all that a user can get wrong is found here, before anything is compiled."""
    flags = settings.data
    dataset = data.load(
        flags.dataset or "",
        data_dir=flags.data_dir,
        manual_dir=flags.manual_dir,
        image_size=flags.image_size,
        sequence_length=flags.sequence_length,
    )
    spec = resolve_spec(settings, dataset.spec)
    examples = dataset.num_training_examples
    batch_size = settings.run.batch_size or min(settings.defaults["batch_size"], examples)
    if batch_size > examples:
        raise UserError(
            f"--batch_size={batch_size} is larger than the training data of {examples} examples; give at most {examples}"
        )
    settings = replace_run(settings, batch_size=batch_size)
    run, directory = settings.run, run_directory(settings)
    steps = run.steps or math.ceil(min((run.epochs or 0) * examples / batch_size, 2.0**31))
    if steps >= 2**31:
        raise UserError(
            f"--epochs={run.epochs:g}: expected at most {2**31 * batch_size // examples} epochs (2^31 steps)"
        )
    if run.profile:
        profiling.check_steps(steps)
    if (settings.data.flip or settings.data.crop) and len(spec.shape) != 3:
        raise UserError(
            f"--flip and --crop are for images, and {spec.name} has examples of shape {spec.shape}; leave them out"
        )
    if settings.data.crop and settings.data.crop >= min(spec.shape[:2]):
        raise UserError(f"--crop={settings.data.crop}: expected less than the side of the images, {spec.shape}")
    available = jax.device_count()
    if run.devices is not None and run.devices > available:
        raise UserError(f"--devices={run.devices}: this machine has {available}")
    recipe = build_recipe(settings, spec)
    later = (settings.stage_steps.get(stage.name, steps) for stage in recipe.stages[1:])
    return Experiment(settings, directory, dataset, spec, recipe, stack_hparams(settings), (steps, *later))
