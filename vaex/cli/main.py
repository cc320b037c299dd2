"""The command line: ``python experiments/run.py --model=beta_vae``. Messages for people, exit codes for scripts."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

import vaex
from vaex.cli.allocator import share_arenas
from vaex.cli.export_run import export_run
from vaex.cli.parse import Command, parse_all
from vaex.errors import PARTLY_DIVERGED, Interrupted, NonFiniteError, Terminated, UserError, require_train

SMALLER = "try a smaller --batch_size, --hidden, --latent_dim or --eval_samples, or fewer members"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, evaluate, draw.

    Args:
      arguments: of the command line; those of the process where None.
    Returns: the exit code: 0 done, 2 invalid input, 3 a loss that is not finite, 4 some members of a population, or some of several
      runs, diverged and the others are done, 5 another process of the run is gone, 128 + the number of a signal that stopped it.
    """
    code, ends_at_once = _guarded(arguments)
    # XLA's threads, still at work, may crash in a slow goodbye; and jax's would wait for processes that may be gone
    if arguments is None and code and (ends_at_once or _has_joined()):
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    return code


def _has_joined() -> bool:
    """Return True if this process is one of several."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _guarded(arguments: Sequence[str] | None) -> tuple[int, bool]:
    """Return the exit code, and whether the process should end at once where it is the command's."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # no terminal's encoding may cost the results of a long run; lines come at once also where they go to a file
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        given = sys.argv[1:] if arguments is None else arguments
        if list(given) == ["--version"]:
            print(f"vaex {vaex.__version__}")
            return 0, False
        require_train("the command line")
        if given[:1] == ["export"]:
            return export_run(given[1:]), False
        command = parse_all(given)
        if arguments is None:
            share_arenas()
        return run_all(command), False
    except UserError as error:
        return complain(str(error), error.exit_code), False
    except (Interrupted, Terminated) as error:
        return complain(str(error), error.exit_code), True
    except KeyboardInterrupt:
        return complain("interrupted; the same command continues from the last checkpoint", 130), True
    except BrokenPipeError:  # whoever read our output has left, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141, False
    except OSError as error:
        advice = "check the disk, the path and its permissions, then run the same command again"
        return complain(f"{error}; {advice}", 2), False
    except MemoryError as error:
        return complain(f"out of memory ({error}); {SMALLER}", 2), False
    except Exception as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error):  # XLA's
            return complain(f"out of memory ({str(error).splitlines()[0]}); {SMALLER}", 2), False
        if isinstance(error, RuntimeError) and "Unable to initialize backend" in str(error):
            return complain(f"{error}; check JAX_PLATFORMS, and the driver of the accelerator", 2), False
        if not _has_joined():
            raise
        traceback.print_exc()
        return 1, True


def run_all(command: Command) -> int:
    """Run all settings of a command, one after the other, and compare them where there are several.

    Returns: the exit code, 0, or 4 where some members, or some of the runs, diverged.
    Raises: NonFiniteError where all did.
    """
    from vaex.runs import console, lifecycle

    talk, directories, failed, lost = console.command_line(), [], 0, 0
    for number, (name, settings) in enumerate(command.runs.items(), start=1):
        if name:
            talk.say(f"\n{name}, run {number} of {len(command.runs)}")
        try:
            completed = lifecycle.run(settings, talk, ends_process=True)
        except NonFiniteError as error:
            failed += 1
            if failed == len(command.runs):
                raise
            talk.warn(f"{name}: {error}")
            continue
        lifecycle.show(completed)
        directories.append(str(completed.experiment.store.directory))
        if completed.diverged:
            lost += len(completed.diverged)
            members = len(completed.experiment.settings.members)
            talk.warn(f"{len(completed.diverged)} of {members} members diverged; the others are finished")
    code = PARTLY_DIVERGED if failed or lost else 0
    if len(directories) > 1:
        from vaex.results.compare import compare, read_log_likelihoods, read_runs

        summaries = read_runs(directories)
        talk.say(f"\n{compare(summaries, read_log_likelihoods(summaries))}")
        if command.out is not None:
            from vaex.results import side_by_side

            table = side_by_side.write_csv(f"{command.out}/comparison.csv", summaries)
            talk.say(
                f"\nall numbers: {table}; figures: python experiments/compare.py {command.out}/*/ --figure=FILE.png"
            )
    return code


def complain(text: str, code: int) -> int:
    """Print one line on standard error; returns ``code``."""
    print(f"vaex: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code
