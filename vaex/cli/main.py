"""The command line: ``python experiments/run.py --model=beta_vae``. Messages for people, exit codes for scripts."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaex import files
from vaex.cli.parse import parse
from vaex.configuration.settings import Settings
from vaex.errors import UserError, require_train

if TYPE_CHECKING:
    from vaex.runs.setup import Experiment


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, train, evaluate, draw. Returns the exit code: 0 done, 2 a slip in the input, 3 a loss that is not finite."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # no terminal's encoding may cost the results of a long run; lines come at once also where they go to a file
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        require_train("the command line")
        return run(parse(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        return complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = complain("interrupted; the same command continues from the last checkpoint", 130)
        if (
            argv is None
        ):  # the process is ours: end it here, since XLA's threads, still at work, may crash in a slow goodbye
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)
        return code
    except BrokenPipeError:  # whoever read our output has left, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return complain(f"{error}; check the disk, the path and its permissions, then run the same command again", 2)
    except MemoryError as error:
        return complain(f"out of memory ({error}); {SMALLER}", 2)
    except RuntimeError as error:  # XLA's
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return complain(f"out of memory ({str(error).splitlines()[0]}); {SMALLER}", 2)


SMALLER = "try a smaller --batch_size, --hidden, --latent_dim or --eval_samples, or fewer members"


def complain(text: str, code: int) -> int:
    """One line on standard error; returns ``code``."""
    print(f"vaex: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code


def run(settings: Settings) -> int:
    """Train what is left to train, evaluate and draw; a finished run is told so."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from vaex.runs import setup as experiment
    from vaex.training import compile_cache as compilation
    from vaex.training import multihost as processes
    from vaex.training import population

    flags = settings.run
    if flags.devices is None and flags.coordinator_address is None:
        population.use_all_cores(len(settings.members))
    with compilation.cache(flags.compile_cache, lambda text: complain(text, 0)):
        processes.join(flags.coordinator_address, flags.num_processes, flags.process_id)
        assembled = experiment.assemble(settings)
        return lead(assembled) if processes.is_first() else follow(assembled)


FINISHED, NEW, RESUMED = range(3)  # where a run directory stands


def follow(assembled: Experiment) -> int:
    """Train beside the first process, which alone writes, evaluates and draws."""
    from vaex.runs import train as trainer
    from vaex.training import multihost as processes

    stands = processes.decide(lambda: NEW)
    if stands != FINISHED:
        trainer.train(assembled, resumed=stands == RESUMED, say=lambda text: None)
    processes.leave()
    return 0


def lead(assembled: Experiment) -> int:
    """Take the run in its directory, held against others, to where the flags want it."""
    from vaex.runs import report
    from vaex.runs import train as trainer
    from vaex.training import multihost as processes

    settings, path = assembled.settings, assembled.directory / "summary.json"
    with contextlib.ExitStack() as holding:

        def look() -> int:
            files.make_writable(assembled.directory)
            holding.enter_context(files.held(assembled.directory))
            return standing(assembled, path)

        stands = processes.decide(look)
        done = finished(path)
        if stands == FINISHED and done is not None:
            processes.leave()
            print(
                f"{assembled.directory} is finished at step {done['steps']}; a larger --steps goes on, --overwrite starts again"
            )
            show(assembled.directory, done)
            return 0
        size = f"{len(settings.members)} members, " if len(settings.members) > 1 else ""
        steps = " + ".join([f"{assembled.steps} steps", *(f"{n} of {s}" for s, n in assembled.later_steps.items())])
        print(f"{settings.model} on {assembled.spec.name}: {size}{steps}, in {assembled.directory}")
        trained = trainer.train(assembled, resumed=stands == RESUMED, say=print)
        processes.leave()
        if done is not None and trained_as_far(done, assembled):  # only the evaluation is new: keep how it was trained
            trained = trained._replace(facts={name: done.get(name) for name in trained.facts})
        summary = report.summarize(assembled, trained, tell_on(sys.stderr))
        files.write_json(path, summary)
        show(assembled.directory, summary)
        return 0


def standing(assembled: Experiment, path: pathlib.Path) -> int:
    """Claim the run directory, and tell where it stands: FINISHED with all that the flags want, NEW or RESUMED."""
    from vaex.runs import directory as run_directory
    from vaex.runs import report

    resumed = run_directory.claim(assembled)
    done = finished(path)
    if done is not None and done["steps"] > assembled.steps:
        raise UserError(
            f"{assembled.directory} is trained to step {done['steps']} already, beyond --steps={assembled.steps}; give at "
            "least that many steps, another --out, or --overwrite to start again"
        )
    complete = done is not None and trained_as_far(done, assembled) and not assembled.settings.run.profile
    if done is not None and complete and covers(done["evaluation"], report.evaluation_facts(assembled)):
        return FINISHED
    return RESUMED if resumed else NEW


def trained_as_far(done: Mapping[str, Any], assembled: Experiment) -> bool:
    """Whether every stage of a finished run has been trained as far as is wanted."""
    return done["steps"] == assembled.steps and done.get("stage_steps", {}) == assembled.later_steps


def covers(done: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether an evaluation that was done holds all of one that is wanted; pictures that are there need not be wanted.

    Example:
      >>> covers({"split": "test", "figures": "mean"}, {"split": "test", "figures": None})
      True
    """
    return all(done.get(name) == value for name, value in wanted.items() if name != "figures" or value is not None)


def finished(path: pathlib.Path) -> dict[str, Any] | None:
    """The summary of a finished run, or None, also where it is damaged (it is then written anew)."""
    try:
        done = files.read_json(path)
    except (OSError, ValueError):
        return None
    needed = {"steps": int, "evaluation": dict, "results": list, "members": list}
    return done if isinstance(done, dict) and all(isinstance(done.get(k), v) for k, v in needed.items()) else None


def tell_on(stream: Any) -> Any:
    """A line that rewrites itself on a terminal; silent elsewhere."""

    def tell(text: str) -> None:
        if stream.isatty():
            print(f"\r\x1b[K{text}", end="", file=stream, flush=True)

    return tell


def show(directory: pathlib.Path, summary: dict[str, Any]) -> None:
    """The results of a run, and where its files are."""
    from vaex.runs import report

    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    print(report.table(summary))
    print(report.sentence(summary))
    if summary.get("steps_per_second"):
        print(report.speed(summary))
    if (directory / "figures").is_dir():
        print(f"pictures: {directory / 'figures'}")
    print(f"in Python: run = vaex.load({str(directory)!r})")
