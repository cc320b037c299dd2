"""The life of a run: joined by all its processes, taken from where its directory stands to where its settings ask for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import TextIO

from vaex import files
from vaex.configuration.settings import Settings
from vaex.runs import report
from vaex.runs.directory import Standing, claim, finished_summary, is_trained
from vaex.runs.setup import Experiment, assemble
from vaex.runs.summary import evaluation_record, summarize
from vaex.runs.train import train
from vaex.training import compile_cache, multihost, population


def run(settings: Settings, warn: Callable[[str], None]) -> None:
    """Train what is left to train, evaluate and draw; a finished run says so.

    Args:
      settings: checked.
      warn: prints one line that is no result.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options = settings.run
    if options.devices is None and options.coordinator_address is None:
        population.use_all_cores(len(settings.members))
    with compile_cache.cache(options.compile_cache, warn):
        multihost.join(options.coordinator_address, options.num_processes, options.process_id)
        experiment = assemble(settings)
        if multihost.is_first():
            lead(experiment)
        else:
            follow(experiment)


def follow(experiment: Experiment) -> None:
    """Train beside the first process, which alone writes, evaluates and draws."""
    standing = multihost.decide(lambda: Standing.NEW)
    if standing != Standing.FINISHED:
        train(experiment, resumed=standing == Standing.BEGUN, say=lambda text: None)
    multihost.leave()


def lead(experiment: Experiment) -> None:
    """Take the run, whose directory no other process may hold, to where its settings ask for."""
    settings, path = experiment.settings, experiment.directory / "summary.json"
    with contextlib.ExitStack() as stack:

        def stand() -> int:
            files.make_writable(experiment.directory)
            stack.enter_context(files.held(experiment.directory))
            return claim(experiment, evaluation_record(experiment))

        standing = multihost.decide(stand)
        done = finished_summary(path)
        if standing == Standing.FINISHED and done is not None:
            multihost.leave()
            print(
                f"{experiment.directory} is finished at step {done['steps']}; a larger --steps goes on, --overwrite starts again"
            )
            report.show(experiment.directory, done)
            return
        size = f"{len(settings.members)} members, " if len(settings.members) > 1 else ""
        later = (f"{steps} of {stage}" for stage, steps in experiment.later_steps.items())
        steps = " + ".join([f"{experiment.steps} steps", *later])
        print(f"{settings.model} on {experiment.spec.name}: {size}{steps}, in {experiment.directory}")
        trained = train(experiment, resumed=standing == Standing.BEGUN, say=print)
        multihost.leave()
        if done is not None and is_trained(done, experiment):  # only the evaluation is new: keep how it was trained
            trained = trained._replace(measured={name: done.get(name) for name in trained.measured})
        summary = summarize(experiment, trained, rewriting_line(sys.stderr))
        files.write_json(path, summary)
        report.show(experiment.directory, summary)


def rewriting_line(stream: TextIO) -> Callable[[str], None]:
    """A function that prints a line over the last one on a terminal, and nothing elsewhere."""

    def tell(text: str) -> None:
        if stream.isatty():
            print(f"\r\x1b[K{text}", end="", file=stream, flush=True)

    return tell
