"""One experiment put together: settings, data, recipe and a run directory; trained from where it stands."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex import config, data, identity, profiling
from vaex.core import Algorithm, Feed, Recipe, Stage
from vaex.data.factors import factor_feed
from vaex.data.labelled import choose_labelled, hide_labels, labelled_order
from vaex.data.spec import Dataset, Spec
from vaex.errors import NonFiniteError, UserError
from vaex.files import make_writable, read_json, write_json
from vaex.models import likelihoods
from vaex.training import algorithm, loop, mesh, population, processes, reporting
from vaex.training.checkpoint import Checkpoints

SHOWN = ("elbo", "reconstruction", "cross_entropy", "kl")


class Experiment(NamedTuple):
    """Settings with their data and functions. ``hparams`` are stacked over members; ``steps`` is where training ends."""

    settings: config.Settings
    directory: pathlib.Path
    dataset: Dataset
    spec: Spec
    recipe: Recipe
    hparams: Any
    steps: int


class Trained(NamedTuple):
    """A stacked train state and the facts of how it was made, for the summary."""

    state: Any
    facts: dict[str, Any]


def resolve_spec(settings: config.Settings, spec: Spec) -> Spec:
    """The spec with binarisation and dequantisation as the flags and the likelihood want them."""
    name = getattr(settings.config, "likelihood", None)
    binarize = settings.data.binarize
    if binarize == "auto":
        binarize = "none" if name is None else likelihoods.binarization(likelihoods.choose(name, spec), spec)
    return data.resolve(spec, binarize=binarize, dequantize=settings.data.dequantize)


def build_recipe(settings: config.Settings, spec: Spec) -> Recipe:
    """The model's recipe for data of this spec."""
    recipe = settings.module.build(settings.config, spec)
    if len(recipe.stages) != 1:
        raise UserError(
            f"--model={settings.model}: its recipe has {len(recipe.stages)} stages; training takes one so far"
        )
    return recipe


def stack_hparams(settings: config.Settings) -> Any:
    """The members' hyperparameters as one tree of schedules with leading axis [p]."""
    build = settings.module.HParams
    return population.stack([algorithm.as_schedules(build(**member.hparams)) for member in settings.members])


def assemble(settings: config.Settings) -> Experiment:
    """Load the data and build the recipe; all that a user can get wrong is found here, before anything is compiled."""
    flags = settings.data
    dataset = data.load(
        flags.dataset or "",
        data_dir=flags.data_dir,
        manual_dir=flags.manual_dir,
        image_size=flags.image_size,
    )
    spec = resolve_spec(settings, dataset.spec)
    examples = dataset.num_training_examples
    batch_size = settings.run.batch_size or min(settings.defaults["batch_size"], examples)
    if batch_size > examples:
        raise UserError(
            f"--batch_size={batch_size} is larger than the training data of {examples} examples; give at most {examples}"
        )
    settings = replace_run(settings, batch_size=batch_size)
    run, directory = settings.run, identity.run_directory(settings)
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
    return Experiment(settings, directory, dataset, spec, build_recipe(settings, spec), stack_hparams(settings), steps)


# --- the run directory --------------------------------------------------------------------------------------------


def claim(experiment: Experiment) -> bool:
    """Make the run directory ours: a new one, or one that holds the same configuration.

    Returns: whether it held a run already.
    Raises: UserError for a directory that cannot be written, holds something else, or another configuration.
    """
    directory, path = experiment.directory, experiment.directory / "config.json"
    make_writable(directory)
    if experiment.settings.run.overwrite and path.exists():
        clear(directory)
        return False
    if not path.exists():
        strangers = [entry.name for entry in directory.iterdir() if not entry.name.startswith(".")]
        if strangers:
            raise UserError(
                f"--out={directory}: holds other files ({', '.join(sorted(strangers)[:3])}) but no run; choose another directory"
            )
        return False
    old = identity.read(path)
    changed = identity.differences(old["identity"], identity.identity(experiment.settings))
    if old["data"]["data_hash"] != experiment.spec.data_hash:
        changed.append(f"data: {old['data']['data_hash']} -> {experiment.spec.data_hash}")
    if changed:
        raise UserError(
            f"--out={directory} holds a run of another configuration: {'; '.join(changed)}. Choose another --out, "
            "or start again with --overwrite"
        )
    return True


OURS = ("config.json", "metrics.jsonl", "timings.jsonl", "summary.json", "checkpoints", "figures", "profile")


def clear(directory: pathlib.Path) -> None:
    """Remove what a run has written, and nothing else; config.json last, so a half-cleared run is still known as one.

    Raises: UserError where the directory's config.json is not a run's.
    """
    path = directory / "config.json"
    try:
        ours = identity.is_run(read_json(path))
    except (OSError, ValueError):  # damaged: a run's, where nothing else lies beside it
        ours = all(entry.name in OURS or entry.name.startswith(".") for entry in directory.iterdir())
    if not ours:
        raise UserError(f"--out={directory}: its config.json is not that of a run; choose another directory")
    for picture in (directory / "figures").rglob("*.png"):
        picture.unlink()
    for folder in sorted((directory / "figures").rglob("*"), reverse=True):
        _remove_empty(folder)
    _remove_empty(directory / "figures")
    for name in ("checkpoints", "profile"):
        if (directory / name).is_dir() and not (directory / name).is_symlink():
            shutil.rmtree(directory / name)
    for name in ("checkpoints", "profile", "summary.json", "timings.jsonl", "metrics.jsonl", "config.json"):
        (directory / name).unlink(missing_ok=True)


def _remove_empty(folder: pathlib.Path) -> None:
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def write_config(experiment: Experiment, strategy: str) -> None:
    """config.json: all that rebuilding the model takes."""
    facts = {
        "vaex": vaex.__version__,
        "identity": identity.identity(experiment.settings),
        "data": {"path": experiment.settings.data.dataset, **experiment.spec._asdict()},
        "population_strategy": strategy,
    }
    write_json(experiment.directory / "config.json", facts)


def load_spec(facts: dict[str, Any]) -> Spec:
    """The Spec that ``write_config`` stored."""
    stored = ((name, facts["data"][name]) for name in Spec._fields)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored}
    return Spec(**values)


# --- training -----------------------------------------------------------------------------------------------------


def stage_algorithm(stage: Stage, spec: Spec, *, flip: bool = False, crop: int = 0) -> Algorithm:
    """The stage's algorithm on stored batches: values are prepared (flipped, moved, scaled, binarised) inside the step."""

    def prepare(key: jax.Array, x: jax.Array) -> jax.Array:
        if flip or crop:
            x = data.augment(jax.random.fold_in(key, 1), x, flip=flip, crop=crop)
        return data.prepare(spec, key, x)

    return algorithm.prepared(stage.algorithm, prepare)


def training_feed(experiment: Experiment) -> Feed:
    """The feed of the training split, on the device or streamed, with few labels where the flags say so."""
    flags, arrays = experiment.settings.data, experiment.dataset.splits["train"]
    batch_size, order = experiment.settings.run.batch_size or 0, None
    if experiment.dataset.source is not None:
        if flags.labels is not None:
            raise UserError(
                f"--labels={flags.labels}: {experiment.spec.name} has factors, not labels; leave the flag out"
            )
        return factor_feed(experiment.dataset.source, batch_size, flags.data_seed)
    if flags.labels is not None:
        classes = experiment.spec.num_classes if "y" in arrays else 0
        y = arrays.get("y", np.zeros(0, np.int32))
        kept = choose_labelled(y, flags.labels, classes, flags.data_seed)
        share = flags.labelled_per_batch or max(1, min(batch_size // 2, len(kept)))
        arrays, order = hide_labels(arrays, kept), labelled_order(kept, len(y), batch_size, share, flags.data_seed)
    elif flags.labelled_per_batch is not None:
        raise UserError(
            f"--labelled_per_batch={flags.labelled_per_batch} needs --labels; give it, or leave this flag out"
        )
    return data.feed_for(flags.memory, arrays, batch_size, flags.data_seed, order=order)


def initial_state(experiment: Experiment) -> tuple[Algorithm, Any, Any]:
    """The algorithm, the feed and the members' first states."""
    stage, run = experiment.recipe.stages[0], experiment.settings.run
    arrays = experiment.dataset.splits["train"]
    feed = training_feed(experiment)
    flags = experiment.settings.data
    stepper = stage_algorithm(stage, experiment.spec, flip=flags.flip, crop=flags.crop)
    example = {name: jnp.asarray(values[: run.batch_size]) for name, values in arrays.items()}
    seeds = [member.seed for member in experiment.settings.members]
    return stepper, feed, population.init(stepper, seeds, experiment.hparams, example)


def strategy_for(experiment: Experiment, state: Any, recorded: str | None) -> str:
    """The recorded strategy of a run that continues, else the flag's, else the measured rule's."""
    members = len(experiment.settings.members)
    wanted = experiment.settings.run.population_strategy
    if recorded is not None:
        if wanted not in ("auto", recorded) and members > 1:
            raise UserError(
                f"--population_strategy={wanted}: this run began as {recorded}, and a change would change its "
                "numbers; leave the flag out"
            )
        return recorded
    if wanted != "auto" and members > 1:
        return wanted
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state.variables.params)) // members
    return population.choose_strategy(members, size, jax.default_backend())


def train(experiment: Experiment, *, resumed: bool, say: Any) -> Trained:
    """Train to ``experiment.steps`` from the latest checkpoint, or from the start.

    Args:
      experiment: assembled, its directory claimed.
      resumed: whether the directory holds a run of this configuration.
      say: prints one line.
    Raises: NonFiniteError where a loss stops being finite; the last good checkpoint stays.
    """
    run, directory = experiment.settings.run, experiment.directory
    stepper, feed, state = initial_state(experiment)
    recorded = read_json(directory / "config.json").get("population_strategy") if resumed else None
    strategy = strategy_for(experiment, state, recorded)
    placement = mesh.choose(len(experiment.settings.members), run.batch_size or 0, run.devices or jax.device_count())
    if not resumed and processes.is_first():
        write_config(experiment, strategy)
    program, carry = loop.compile_program(
        stepper, feed, state, log_every=run.log_every, strategy=strategy, placement=placement
    )
    checkpoints = Checkpoints(directory / "checkpoints")
    try:
        latest = checkpoints.latest()
        start = latest or 0
        if start > experiment.steps:
            raise UserError(
                f"{directory} is trained to step {start} already, beyond step {experiment.steps}; give at least "
                f"--steps={start}, another --out, or --overwrite to start again"
            )
        profiler = None
        if run.profile:
            profiler = profiling.Profiler(directory / "profile", start, experiment.steps, writes=processes.is_first())
        if latest is None:
            if resumed:
                say(f"{directory} holds no checkpoint: starting again at step 0")
            checkpoints.save(0, carry)  # so that there is a last good state from the first step on
        else:
            carry = checkpoints.restore(carry)
            say(f"continuing {directory} at step {start} of {experiment.steps}")
        carry, seconds = _fit(experiment, program, carry, checkpoints, start, profiler)
    finally:
        checkpoints.close()
    if profiler is not None:
        profiler.summarize(program.call, say)
    trained = experiment.steps - start
    facts = {
        "step_traces": program.step_traces,
        "compile_seconds": round(program.compile_seconds, 3),
        "steps_per_second": round(trained / seconds, 2) if seconds else None,
        "population_strategy": strategy,
        "devices_used": 1 if placement is None else placement.mesh.size,
    }
    return Trained(processes.fetch(carry.state), facts)


def _fit(
    experiment: Experiment,
    program: loop.Program,
    carry: Any,
    checkpoints: Checkpoints,
    start: int,
    profiler: profiling.Profiler | None,
) -> tuple[Any, float]:
    """The loop with its files and progress; returns the last carry and the seconds spent in steps."""
    run, directory, stop = experiment.settings.run, experiment.directory, experiment.steps
    writer = _writer(experiment, program, start) if processes.is_first() else None
    spent, last_save = [0.0], [time.monotonic()]

    def report(first: int, end: int, chunk: loop.Chunk, seconds: float) -> None:
        spent[0] += seconds
        if writer is not None:
            writer.report(first, end, chunk.rows, chunk.last, seconds)
        if profiler is not None:
            profiler.after(end - first, seconds)

    def save(step: int, now: loop.Carry) -> None:
        due = step % run.checkpoint_every == 0 if run.checkpoint_every else time.monotonic() - last_save[0] > 60.0
        if processes.agree(int(due)) == (1,) or step == stop:
            checkpoints.save(step, now)
            last_save[0] = time.monotonic()
        if profiler is not None:
            profiler.before(step)

    def boundary(step: int) -> int | None:
        every = run.checkpoint_every
        walls = [(step // every + 1) * every if every else None, profiler.boundary(step) if profiler else None]
        return min((wall for wall in walls if wall is not None), default=None)

    try:
        carry = loop.fit(program, carry, start, stop, report=report, save=save, boundary=boundary)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"training stopped: {error}; the checkpoint of step {checkpoints.latest()} is kept in {directory}. "
            "Try a lower --learning_rate or --clip_norm=1"
        ) from None
    finally:
        if writer is not None:
            writer.close()
        if profiler is not None:
            profiler.close()
    return carry, spent[0]


def _writer(experiment: Experiment, program: loop.Program, start: int) -> reporting.Writer:
    settings = experiment.settings
    shown = [name for name in SHOWN if name in program.metric_names] or ["loss"]
    progress = reporting.Progress(settings.model, start, experiment.steps, settings.run.batch_size or 0, shown)
    return reporting.Writer(experiment.directory, program.metric_names, program.log_every, start, progress)


def describe_member(settings: config.Settings, member: config.Member) -> str:
    """A member in a few words: the hyperparameters that vary, and its seed.

    The words are also the name of its folder of figures.
    """
    parts = [f"{name}={member.hparams[name].replace(':', '-')}" for name in settings.varied]
    return "_".join([*parts, f"seed={member.seed}"])


def replace_run(settings: config.Settings, **changes: Any) -> config.Settings:
    """Settings with other run flags."""
    return settings._replace(run=dataclasses.replace(settings.run, **changes))
