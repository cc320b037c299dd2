"""The command line: ``python experiments/run.py --model=beta_vae``. Messages for people, exit codes for scripts."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

from vaex.cli.export_run import export_run
from vaex.cli.parse import Command, parse_all
from vaex.configuration.settings import Settings
from vaex.errors import UserError, require_train

SMALLER = "try a smaller --batch_size, --hidden, --latent_dim or --eval_samples, or fewer members"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, train, evaluate, draw.

    Args:
      arguments: of the command line; those of the process where None.
    Returns: the exit code: 0 done, 2 invalid input, 3 a loss that is not finite, 130 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # no terminal's encoding may cost the results of a long run; lines come at once also where they go to a file
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        require_train("the command line")
        given = sys.argv[1:] if arguments is None else arguments
        return export_run(given[1:]) if given[:1] == ["export"] else run_all(parse_all(given))
    except UserError as error:
        return complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = complain("interrupted; the same command continues from the last checkpoint", 130)
        if arguments is None:
            # the process is ours: end it here, since XLA's threads, still at work, may crash in a slow goodbye
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
        if "Unable to initialize backend" in str(error):
            return complain(f"{error}; check JAX_PLATFORMS, and the driver of the accelerator", 2)
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return complain(f"out of memory ({str(error).splitlines()[0]}); {SMALLER}", 2)


def run(settings: Settings) -> int:
    """Run checked settings; return the exit code 0."""
    return run_all(Command(None, {"": settings}))


def run_all(command: Command) -> int:
    """Run all settings of a command, one after the other, and compare them where there are several; return the exit code 0."""
    from vaex.runs import console, lifecycle

    talk, directories = console.command_line(), []
    for name, settings in command.runs.items():
        if name:
            talk.say(f"\n{name}, run {len(directories) + 1} of {len(command.runs)}")
        completed = lifecycle.run(settings, talk)
        lifecycle.show(completed)
        directories.append(str(completed.experiment.store.directory))
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
    return 0


def complain(text: str, code: int) -> int:
    """Print one line on standard error; returns ``code``."""
    print(f"vaex: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return code
