"""A directory claimed by one process: made, tried for writing, locked."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from vaex.errors import UserError
from vaex.files.atomic import TEMPORARY


def make_writable(directory: pathlib.Path) -> None:
    """Make ``directory`` where it is missing, and try that a file can be written in it (permissions alone don't tell).

    Raises: UserError where it can't be.
    Example:
      >>> make_writable(pathlib.Path(os.devnull))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --out=/dev/null: cannot be written (File exists); choose another directory
    """
    try:
        str(directory.resolve()).encode()
    except UnicodeEncodeError:
        raise UserError(f"--out={directory}: is not UTF-8, which checkpoints need; choose another directory") from None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise UserError(
            f"--out={directory}: cannot be written ({error.strerror or error}); choose another directory"
        ) from None


@contextlib.contextmanager
def held(directory: pathlib.Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold ``directory`` against other processes that ask for it so, until the block or the process ends.

    Left-overs of writes that were killed are removed on entering. Where the file system knows no locks, nothing is held,
    and left-overs stay, since they may be another process's work.

    Args:
      directory: exists.
      wait: for whoever holds it, instead of raising.
    Returns: whether it waited.
    Raises: UserError where another process holds it.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder, held(pathlib.Path(folder)) as waited:
      ...     waited
      False
    """
    try:
        import fcntl  # noqa: F401
    except ImportError:  # no such locks on this platform
        yield False
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        state = _lock(handle, wait)
        if state is None:
            raise UserError(
                f"--out={directory}: another process is at work there; wait until it ends, or choose another directory"
            )
        for entry in directory.iterdir() if state != "unheld" else ():
            if TEMPORARY.fullmatch(entry.name) and entry.is_file():
                entry.unlink(missing_ok=True)
        yield state == "waited"
    finally:
        os.close(handle)


def _lock(handle: int, wait: bool) -> str | None:
    """One of "held", "waited" (and then held), "unheld" where there are no locks, or None where another process has it."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return "held"
    except BlockingIOError:
        if not wait:
            return None
        fcntl.flock(handle, fcntl.LOCK_EX)
        return "waited"
    except OSError:  # such as on some network file systems
        return "unheld"
