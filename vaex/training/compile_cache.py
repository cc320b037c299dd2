"""JAX's compilation cache for the command line, so that a second start loads its programs: kept in the user's cache folder,
bounded, and cleaned of damaged entries before use.

JAX writes an entry in place, so a kill or a full disk leaves a torn one, which JAX can't read, would complain of at every start,
and never replaces. Its key holds the program, the compiler's version and flags, and the processor's features: what is loaded
is what would be compiled, bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator

from vaex.errors import UserError
from vaex.files import read_json, write_json

LIMIT = 256 << 20  # bytes; a run's programs take 1 to 10 MB
CHECKED = "checked.json"  # entries that were found whole, by name: [bytes, time of change]
SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,  # a small program too loads in a tenth of its compile time
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_persistent_cache_enable_xla_caches": "none",  # XLA's own files would be neither checked nor bounded
    # jax's own bound needs a file of access times beside each entry: it stores nothing where an entry lacks one, as those do that
    # were kept without a bound. ``clean`` keeps to the user's bound instead
    "jax_compilation_cache_max_size": -1,
}
ZSTANDARD = b"\x28\xb5\x2f\xfd"  # how its frames begin; the other format is zlib's


def default_folder() -> pathlib.Path:
    """``$VAEX_CACHE``, else vaex's folder in the platform's place for caches; programs are kept in "programs" below it.

    Raises: RuntimeError where there is no home folder.
    """
    chosen = os.environ.get("VAEX_CACHE")
    if chosen:
        return pathlib.Path(chosen).expanduser() / "programs"
    if sys.platform == "darwin":
        base = pathlib.Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = pathlib.Path(os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local")
    else:
        given = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "")
        base = given if given.is_absolute() else pathlib.Path.home() / ".cache"  # a relative one is to be ignored
    return base / "vaex" / "programs"


@contextlib.contextmanager
def cache(choice: str, tell: Callable[[str], object] = lambda text: None) -> Iterator[pathlib.Path | None]:
    """Keep compiled programs while the block runs; jax's settings are as before afterwards.

    Args:
      choice: "auto" (the default folder; where jax has been given one already, by ``JAX_COMPILATION_CACHE_DIR`` or in Python,
        all is left as it is), "off", or a folder.
      tell: takes one line where "auto" finds no folder that can be written; programs are then compiled anew.
    Returns: the folder in use, or None.
    Raises: UserError for a folder, asked for by name, that cannot be written.
    """
    folder, bound = None, _bound()
    if choice == "off" or (choice == "auto" and bound == 0):  # a bound of 0 is jax's way to say off
        values: dict[str, object] = {"jax_compilation_cache_dir": None}
    elif choice == "auto" and (_setting("jax_compilation_cache_dir") or not _setting("jax_enable_compilation_cache")):
        yield None
        return
    else:
        folder = _writable(choice, tell)
        values = {"jax_compilation_cache_dir": None if folder is None else str(folder), **SETTINGS}
    if folder is not None:
        clean(folder, bound)
    before = {name: _setting(name) for name in values}
    try:
        _configure(values)
        with warnings.catch_warnings():
            # an entry that another process is writing or has removed, a disk that is full: compiling is the remedy
            warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
            yield folder
    finally:
        _configure(before)


def _bound() -> int:
    """Return how many bytes are kept: as many as jax is told by ``JAX_COMPILATION_CACHE_MAX_SIZE``, by default ``LIMIT``."""
    size = _setting("jax_compilation_cache_max_size")
    return size if isinstance(size, int) and size >= 0 else LIMIT


def _setting(name: str) -> object:
    import jax

    return getattr(jax.config, name)


def _configure(values: dict[str, object]) -> None:
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # jax opens a folder once


def _writable(choice: str, tell: Callable[[str], object]) -> pathlib.Path | None:
    folder = None
    try:
        folder = default_folder() if choice == "auto" else pathlib.Path(choice).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # whoever writes here can run code as the user
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError) as error:
        reason = f"{folder or choice}: cannot be written ({getattr(error, 'strerror', None) or error})"
        if choice != "auto":
            raise UserError(f"--compile_cache={reason}; choose another folder, or off") from None
        tell(f"compiled programs are not kept: {reason}; --compile_cache=PATH names another folder, off is silent")
        return None
    return folder


def clean(folder: pathlib.Path, limit: int = LIMIT) -> None:
    """Remove entries that are torn or damaged, then those used longest ago until the rest fits in ``limit`` bytes.

    Each entry is decompressed once, which checks it; from then on its size and time of change stand for that. Nothing is
    raised: a folder that refuses is left as it is.
    """
    known, sound = _checked(folder), []
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("*-cache")):
            with contextlib.suppress(OSError):  # another process may have removed it
                status = path.stat()
                record = [status.st_size, status.st_mtime_ns]
                if known.get(path.name) == record or _is_whole(path):
                    sound.append((max(status.st_atime_ns, status.st_mtime_ns), path, record))
                else:
                    path.unlink()
    kept, total = {}, 0
    for _, path, record in sorted(sound, reverse=True):
        total += record[0]
        if total <= limit:
            kept[path.name] = record
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    if kept != known:
        with contextlib.suppress(OSError):
            write_json(folder / CHECKED, kept)


def _checked(folder: pathlib.Path) -> dict[str, list[int]]:
    try:
        known = read_json(folder / CHECKED)
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _is_whole(path: pathlib.Path) -> bool:
    """Return True if an entry decompresses (zlib's format ends with a checksum) to more than the compile time that leads it."""
    content = path.read_bytes()
    if not content.startswith(ZSTANDARD):
        try:
            return len(zlib.decompress(content)) > 4
        except zlib.error:
            return False
    try:
        from compression import zstd  # type: ignore  # Python 3.14's

        decompress, error = zstd.decompress, zstd.ZstdError
    except ImportError:
        try:
            import zstandard  # type: ignore
        except ImportError:
            return True  # of another Python's: this one's jax neither reads nor writes such entries
        decompress, error = zstandard.ZstdDecompressor().decompress, zstandard.ZstdError
    try:
        return len(decompress(content)) > 4
    except (error, EOFError):
        return False
