"""Errors whose message the command line prints instead of a traceback, and helpers that name the remedy."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable

# packages of the extra "train" that vaex imports; the pure layer needs jax and numpy alone
TRAIN = (
    *(
        "PIL",
        "chex",
        "flax",
        "matplotlib",
        "optax",
        "orbax",
        "pyarrow",
        "rich",
        "sklearn",
        "tensorflow_datasets",
        "tyro",
    ),
)


class UserError(ValueError):
    """Invalid input that a user can correct: a flag, a value, a file. The message names the remedy.

    The command line prints the message and exits with ``exit_code``; from Python it is an ordinary ``ValueError``.

    Example:
      >>> raise UserError("batch_size=0: give a positive number")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: batch_size=0: give a positive number
    """

    exit_code = 2


class NonFiniteError(UserError):
    """A loss became NaN or infinite during training; the message names step, member and term (exit code 3)."""

    exit_code = 3


PARTLY_DIVERGED = 4  # exit code of a command that finished all but the members, or the runs, that diverged


class LostProcessError(UserError):
    """Another process of the run is gone; the message names it (exit code 5)."""

    exit_code = 5


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped a run, which was saved where it had begun to train; the message says where (exit code 130).

    Attributes:
      saved: whether the run was saved first, in all its processes.
    """

    def __init__(self, text: str, exit_code: int = 130, *, saved: bool = False) -> None:
        super().__init__(text)
        self.exit_code, self.saved = exit_code, saved


class Terminated(SystemExit):
    """SIGTERM or SIGHUP stopped a run, which was saved where it had begun to train (exit codes 143 and 129).

    Attributes:
      saved: whether the run was saved first, in all its processes.
    """

    def __init__(self, text: str, exit_code: int = 143, *, saved: bool = False) -> None:
        super().__init__(exit_code)
        self.text, self.exit_code, self.saved = text, exit_code, saved

    def __str__(self) -> str:
        return self.text


class MissingPackageError(UserError, ModuleNotFoundError):
    """Packages beyond the pure layer are not installed; the message names the extra that brings them."""


def require_train(purpose: str) -> None:
    """Raise MissingPackageError, naming ``purpose``, unless the packages of the extra "train" are installed.

    Example:
      >>> require_train("vaex.load")  # installed here: nothing happens
    """
    missing = [name for name in TRAIN if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f'{purpose} needs {", ".join(missing)}, not installed here; run: pip install "vaex-jax[train]"'
        )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence that points from a misspelt ``name`` to the nearest of the ``known`` names.

    Example:
      >>> nearest("beta_vea", ["beta_vae", "iwae"])
      'did you mean beta_vae? Known: beta_vae, iwae'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}Known: {', '.join(known)}"
