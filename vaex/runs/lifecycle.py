"""The life of a run: joined by all its processes, taken from where it stands to where its settings ask for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from vaex import files
from vaex.configuration.settings import Settings, describe_member
from vaex.data import announcement
from vaex.data.registry import is_array_file
from vaex.data.spec import Dataset
from vaex.data.storage.layouts import layout_of
from vaex.errors import Interrupted, Terminated, UserError
from vaex.ops.widths import in_single_width
from vaex.results import report
from vaex.runs import changes, memory, processes, warm_start
from vaex.runs.config_file import identity
from vaex.runs.console import Console
from vaex.runs.directory import Standing, claim, finished_summary, is_trained
from vaex.runs.setup import Experiment, assemble, refuse_idle
from vaex.runs.stage_loop import Reporting, recorded_divergences
from vaex.runs.store import CONFIG, Store
from vaex.runs.summary import evaluation_record, summarize
from vaex.runs.train import Trained, train
from vaex.training import compile_cache, loggers, multihost, population, signals
from vaex.training.callbacks import Callback
from vaex.training.divergence import Divergence


class Completed(NamedTuple):
    """A run that is trained as far as its settings ask for.

    Attributes:
      experiment: what was run.
      trained: the last stage's state; None where the run directory held a finished run already.
      summary: the evaluation, None where there was none.
      diverged: members that have diverged; the others are finished.
    """

    experiment: Experiment
    trained: Trained | None
    summary: dict[str, Any] | None
    diverged: tuple[Divergence, ...] = ()


@in_single_width
def run(
    settings: Settings,
    console: Console,
    *,
    dataset: Dataset | None = None,
    store: Store | None = None,
    evaluate: bool = True,
    callbacks: Sequence[Callback] = (),
    source: warm_start.Source | None = None,
    ends_process: bool = False,
) -> Completed:
    """Train what is left to train, evaluate and draw; a finished run says so.

    Args:
      settings: checked.
      console: reports.
      dataset: the data where it is at hand; by default that of the settings is loaded.
      store: where the run is kept; by default the run directory of the settings.
      evaluate: whether the run is evaluated and drawn.
      callbacks: called as training goes on.
      source: what the run begins with where it is at hand; by default the run that the settings name.
      ends_process: whether a second signal that stops the run ends the process at once.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        raise UserError("training is compiled, and jax is told not to compile; unset JAX_DISABLE_JIT (jax_disable_jit)")
    options = settings.run
    if options.devices is None and not options.is_shared:
        population.use_all_cores(len(settings.members))
    with compile_cache.cache(options.compile_cache, console.warn), contextlib.ExitStack() as stack:
        processes.join(settings)
        try:
            # only now, since jax takes SIGTERM where processes join
            interruption = stack.enter_context(signals.watched(ends_process=ends_process))
            settings, source = warm_start.locate(settings, store, source)
            experiment = assemble(settings, dataset, store)
            if options.overwrite or not _is_begun(experiment.store):
                refuse_idle(settings, experiment.spec)
            experiment = warm_start.begin(experiment, source)
            processes.require_alike(experiment)
            changes.check(experiment)
            return _run(experiment, Reporting(console, callbacks, interruption), evaluate=evaluate)
        except BaseException as error:
            if isinstance(error, Interrupted | Terminated) and error.saved:
                multihost.leave()  # as all do
            else:
                multihost.stop(error)
            raise


def _is_begun(store: Store) -> bool:
    """Return whether a run stands in the store already, finished or not."""
    return bool(store.read_config()) if store.directory is None else (store.directory / CONFIG).exists()


def _run(experiment: Experiment, reporting: Reporting, *, evaluate: bool) -> Completed:
    """Take an experiment to its end, as the first process or as another."""
    if not multihost.is_first():
        return follow(experiment, reporting)
    recorders = _recorders(experiment)
    try:
        recorded = reporting._replace(callbacks=(*reporting.callbacks, *recorders))
        return lead(experiment, recorded, evaluate=evaluate)
    finally:
        for recorder in recorders:
            recorder.on_end(None)


def _recorders(experiment: Experiment) -> list[Callback]:
    """Return the callbacks that ``--log_to`` names."""
    settings = experiment.settings
    if settings.run.log_to is None:
        return []
    names = [describe_member(settings, member) for member in settings.members]
    return loggers.callbacks_for(settings.run.log_to, experiment.store.directory, names, identity(settings))


def follow(experiment: Experiment, reporting: Reporting) -> Completed:
    """Train beside the first process, which alone writes, evaluates and draws."""
    standing = multihost.decide(lambda: Standing.NEW)
    trained = None
    if standing != Standing.FINISHED:
        experiment = changes.begin(experiment)
        quiet = reporting.console._replace(say=lambda text: None, progress=False)
        trained = train(experiment, resumed=standing == Standing.BEGUN, reporting=reporting._replace(console=quiet))
    multihost.leave()
    return Completed(experiment, trained, None, () if trained is None else trained.diverged)


def lead(experiment: Experiment, reporting: Reporting, *, evaluate: bool) -> Completed:
    """Take the run, which no other process may hold, to where its settings ask for."""
    directory, console = experiment.store.directory, reporting.console
    with contextlib.ExitStack() as stack:

        def stand() -> int:
            if directory is None:
                return Standing.BEGUN if experiment.store.read_config() else Standing.NEW
            files.make_writable(directory)
            stack.enter_context(files.held(directory))
            return claim(directory, experiment, evaluation_record(experiment))

        standing = multihost.decide(stand)
        done = None if directory is None else finished_summary(directory / "summary.json")
        if standing == Standing.FINISHED and done is not None:
            multihost.leave()
            changes.begin(experiment)  # refuses what is new
            console.say(
                f"{directory} is finished at step {done['steps']}; a larger --steps goes on, --overwrite starts again"
            )
            return Completed(experiment, None, done, recorded_divergences(experiment.store.read_config()))
        experiment = changes.begin(experiment)
        console.say(_announcement(experiment))
        if (origin := warm_start.announcement(experiment.settings)) is not None:
            console.say(origin)
        for line in announcement.lines(experiment.dataset, experiment.spec, choices(experiment)):
            console.say(line)
        text, exceeds = memory.line(experiment)
        if text:
            (console.warn if exceeds else console.say)(text)
        trained = train(experiment, resumed=standing == Standing.BEGUN, reporting=reporting)
        multihost.leave()
        if done is not None and is_trained(done, experiment):  # only the evaluation is new: keep how it was trained
            trained = trained._replace(measured={name: done.get(name) for name in trained.measured})
        summary = evaluated(experiment, trained, console, reporting.interruption) if evaluate else None
        return Completed(experiment, trained, summary, trained.diverged)


@in_single_width
def evaluated(
    experiment: Experiment, trained: Trained, console: Console, interruption: signals.Interruption | None = None
) -> dict[str, Any]:
    """Evaluate and draw a trained run, whose directory is held; return the summary, which is also written there."""
    summary = summarize(experiment, trained, console.tell)
    if interruption is not None:
        interruption.check()  # what it raised may have been lost in a callback of jax
    if experiment.store.directory is not None:
        files.write_json(experiment.store.directory / "summary.json", files.with_digest(summary))
    return summary


def choices(experiment: Experiment) -> announcement.Choices:
    """Return what the lines before training tell of a run beside its data."""
    settings, path = experiment.settings, experiment.data_path
    config, arrays = settings.config, path is None or is_array_file(path)
    return announcement.Choices(
        (layout_of(settings.data.layout, settings.data.kind) if arrays else None),
        getattr(config, "likelihood", None),
        experiment.recipe.likelihood.title,
        per_pixel=getattr(config, "likelihood_scale", "") == "per_pixel",
    )


def _announcement(experiment: Experiment) -> str:
    """Return the line that says what is about to be trained."""
    settings, directory = experiment.settings, experiment.store.directory
    size = f"{len(settings.members)} members, " if len(settings.members) > 1 else ""
    later = (f"{steps} of {stage}" if steps else stage for stage, steps in experiment.later_steps.items())
    steps = " + ".join([f"{experiment.steps} steps", *later])
    place = "" if directory is None else f", in {directory}"
    return f"{settings.model} on {experiment.spec.name}: {size}{steps}{place}"


def show(completed: Completed) -> None:
    """Print the results of a run, and where its files are."""
    if completed.summary is not None:
        report.show(completed.experiment.store.directory, completed.summary)
