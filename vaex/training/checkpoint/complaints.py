"""What orbax and tensorstore say of errors that are raised as well, kept quiet or in the system's words."""

from __future__ import annotations

import functools
import logging
import os
import pathlib
import re
import sys
import traceback
import types

CLOSED = "Event loop is closed"


@functools.cache
def silence_abandoned_reads() -> None:
    """Keep coroutines and threads that orbax leaves behind from complaining, each with a traceback, of what is raised once.

    Where one array fails, orbax closes the event loop under its reads of the others. Each is collected whenever tensorstore is done
    with it, in whichever thread, and then raises an error of its own that nobody can catch.
    """
    unraisable, uncaught = sys.unraisablehook, sys.excepthook

    def quiet_unraisable(given: sys.UnraisableHookArgs) -> None:
        if CLOSED not in str(given.exc_value) and not _is_of_orbax(given.object):
            unraisable(given)

    def quiet_uncaught(kind: type[BaseException], error: BaseException, where: types.TracebackType | None) -> None:
        if CLOSED not in str(error):
            uncaught(kind, error, where)

    sys.unraisablehook, sys.excepthook = quiet_unraisable, quiet_uncaught
    logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in _traceback_text(record))


def _is_of_orbax(collected: object) -> bool:
    return isinstance(collected, types.CoroutineType) and "orbax" in pathlib.Path(collected.cr_code.co_filename).parts


def _traceback_text(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""


def reason(error: Exception) -> str:
    """Return why something cannot be written, in the system's words where they are in the error."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error)
    if (match := re.search(r"os_error_code='(\d+)'", text)) is not None:  # tensorstore's
        return os.strerror(int(match[1]))
    return text.splitlines()[0] if text else type(error).__name__
