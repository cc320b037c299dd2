"""The command line: ``python experiments/run.py --model=beta_vae``. Messages for people, exit codes for scripts."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from vaex import config
from vaex.errors import UserError
from vaex.files import read_json, write_json


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, evaluate, draw. Returns the exit code: 0 done, 2 a slip in the input, 3 a loss that is not finite."""
    try:
        return run(config.parse(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"vaex: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vaex: interrupted; the same command continues from the last checkpoint", file=sys.stderr)
        return 130


def run(settings: config.Settings) -> int:
    """Train what is left to train, evaluate and draw; a finished run is told so."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from vaex import experiment, report

    assembled = experiment.assemble(settings)
    resumed = experiment.claim(assembled)
    done = finished(assembled.directory / "summary.json")
    if done is not None and done["steps"] > assembled.steps:
        raise UserError(
            f"{assembled.directory} is trained to step {done['steps']} already, beyond --steps={assembled.steps}; give at "
            "least that many steps, another --out, or --overwrite to start again"
        )
    complete = done is not None and done["steps"] == assembled.steps
    if done is not None and complete and done["evaluation"] == report.evaluation_facts(assembled):
        print(
            f"{assembled.directory} is finished at step {done['steps']}; a larger --steps goes on, --overwrite starts again"
        )
        show(assembled.directory, done)
        return 0
    size = f"{len(settings.members)} members, " if len(settings.members) > 1 else ""
    print(f"{settings.model} on {assembled.spec.name}: {size}{assembled.steps} steps, in {assembled.directory}")
    trained = experiment.train(assembled, resumed=resumed, say=print)
    if done is not None and complete:  # only the evaluation is new: keep how it was trained
        trained = trained._replace(facts={name: done[name] for name in trained.facts})
    summary = report.summarize(assembled, trained, tell_on(sys.stderr))
    write_json(assembled.directory / "summary.json", summary)
    show(assembled.directory, summary)
    return 0


def finished(path: pathlib.Path) -> dict[str, Any] | None:
    """The summary of a finished run, or None."""
    try:
        return read_json(path) if path.exists() else None
    except ValueError:
        return None


def tell_on(stream: Any) -> Any:
    """A line that rewrites itself on a terminal; silent elsewhere."""

    def tell(text: str) -> None:
        if stream.isatty():
            print(f"\r\x1b[K{text}", end="", file=stream, flush=True)

    return tell


def show(directory: pathlib.Path, summary: dict[str, Any]) -> None:
    """The results of a run, and where its files are."""
    from vaex import report

    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(report.table(summary))
    print(report.sentence(summary))
    if (directory / "figures").is_dir():
        print(f"pictures: {directory / 'figures'}")
    print(f"in Python: run = vaex.load({str(directory)!r})")
