"""Directories of one process: created, tested for writing, locked."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile
from collections.abc import Iterator

from vaex.errors import UserError
from vaex.files.atomic import TEMPORARY


def make_writable(directory: pathlib.Path) -> None:
    """Create ``directory`` if needed, and write a file in it, since permissions alone do not tell whether that is possible.

    Raises: UserError where no file can be written in it.
    Example:
      >>> make_writable(pathlib.Path("/etc/passwd"))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --out=/etc/passwd: cannot be written (File exists); choose another directory
    """
    try:
        str(directory.resolve()).encode()
    except UnicodeEncodeError:
        raise UserError(f"--out={directory}: is not UTF-8, which checkpoints need; choose another directory") from None
    except (OSError, RuntimeError):  # RuntimeError before Python 3.13
        raise UserError(f"--out={directory}: is a link that leads back to itself; choose another directory") from None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise UserError(
            f"--out={directory}: cannot be written ({error.strerror or error}); choose another directory"
        ) from None


@contextlib.contextmanager
def held(directory: pathlib.Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock ``directory`` until the block or the process ends; the lock binds the processes that call this function.

    Temporary files of interrupted writes are removed first. Where the file system has no locks, nothing is locked and these
    files stay, since another process may be writing them.

    Args:
      directory: exists.
      wait: wait for another process's lock instead of raising.
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
    except ImportError:  # this platform has no such locks
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
    """Return "held", "waited" (and then held), "unheld" where there are no locks, or None where another process has the lock."""
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
