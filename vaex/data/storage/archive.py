"""Arrays in .npz files: loaded, memory-mapped in the file, or read a piece at a time."""

from __future__ import annotations

import contextlib
import math
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple, cast

import numpy as np

from vaex.data.storage.splits import CHUNK
from vaex.errors import UserError

# what numpy raises for a damaged header of an array, a Python literal
HEADER_ERRORS = (ValueError, TypeError, SyntaxError, OverflowError, tokenize.TokenError)


@contextlib.contextmanager
def opened(path: pathlib.Path, remedy: str = "") -> Iterator[np.lib.npyio.NpzFile]:
    """Open an .npz file; an error in opening it, or in the block, becomes one clear line.

    Raises: UserError that ends with ``remedy``.
    Example:
      >>> with opened(pathlib.Path("/nonexistent.npz")) as archive:
      ...     pass
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent.npz: no such file; check the path, which starts from ...
    """
    if not path.exists():
        hint = f", or {remedy}" if remedy else ""
        raise UserError(f"{path}: no such file; check the path, which starts from {pathlib.Path.cwd()}{hint}")
    if not path.is_file():
        raise UserError(f"{path}: is not a file; give the path of an .npz file")
    try:
        # opened here, since np.load leaves a damaged file open
        with path.open("rb") as file:
            archive = _npz_file(file)
            if archive is None:
                hint = f"; {remedy}" if remedy else ""
                raise UserError(f"{path}: is not an .npz file, or was cut short{hint}")
            with archive:
                yield archive
    except UserError:
        raise
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check the file and its permissions"
        ) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path}: is damaged ({error}); write or copy it again") from None


def _npz_file(file: IO[bytes]) -> np.lib.npyio.NpzFile | None:
    """Return the archive in a file, None where it holds none."""
    if not zipfile.is_zipfile(file):
        return None
    file.seek(0)
    try:
        return np.load(file, allow_pickle=False)
    except ValueError:  # a zip file, but for its first bytes
        return None


def read_arrays(path: pathlib.Path, names: Sequence[str], remedy: str = "") -> dict[str, np.ndarray]:
    """Read the arrays called ``names`` of an .npz file.

    Raises: UserError where one is missing, or ``opened`` or ``load`` do.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/a.npz", x=np.arange(3))
      ...     read_arrays(pathlib.Path(folder, "a.npz"), ["x"])
      {'x': array([0, 1, 2])}
    """
    with opened(path, remedy) as archive:
        missing = [name for name in names if name not in archive.files]
        if missing:
            raise UserError(f"{path}: has no array {missing[0]}{'; ' if remedy else ''}{remedy}")
        return {name: load(path, archive, name, remedy) for name in names}


def load(path: pathlib.Path, archive: np.lib.npyio.NpzFile, name: str, remedy: str) -> np.ndarray:
    """Load one array of an opened file.

    Raises: UserError where it is not an array, holds Python objects, or claims more values than the file has.
    """
    described, contents = member(path, archive, name, remedy), cast(zipfile.ZipFile, archive.zip)
    claimed, held = math.prod(described.shape) * described.dtype.itemsize, contents.getinfo(described.inner).file_size
    if claimed > held:  # before that much memory is asked for
        raise UserError(
            f"{path}: {name} claims to have shape {described.shape}, {claimed} bytes, and the file holds {held} of it; write or "
            "copy it again"
        )
    try:
        array = archive[name]
    except HEADER_ERRORS as error:
        raise _unusable(path, name, error, remedy) from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path}: {name} is not an array; {remedy}")
    return array


class Member(NamedTuple):
    """An array inside an .npz file.

    ``fortran``: whether it lies in Fortran order. ``start``: offset of its values in the file; None where they are
    compressed. ``inner``: name of its file in the zip.

    Example:
      >>> Member("x", (2, 4), np.dtype(np.uint8), False, 128, "x.npy").start
      128
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    start: int | None
    inner: str


def member(path: pathlib.Path, archive: np.lib.npyio.NpzFile, name: str, remedy: str) -> Member:
    """Read the header of one array of an opened file.

    Raises: UserError where it is not an array, or holds Python objects.
    """
    contents: Any = archive.zip
    inner = f"{name}.npy" if f"{name}.npy" in contents.namelist() else name
    info = contents.getinfo(inner)
    with contents.open(info) as stream:
        try:
            shape, fortran, dtype = _header(stream)
        except HEADER_ERRORS as error:
            if "magic" in str(error):
                raise UserError(f"{path}: {name} is not an array; {remedy}") from None
            raise _unusable(path, name, error, remedy) from None
        if dtype.hasobject:
            raise _unusable(path, name, ValueError("pickle"), remedy)
        if info.compress_type != zipfile.ZIP_STORED:
            return Member(name, shape, dtype, fortran, None, inner)
        length = stream.tell()
    with path.open("rb") as file:
        file.seek(info.header_offset)
        local = file.read(30)  # the zip's own header of this member, then its name and extra bytes
    header = 30 + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    return Member(name, shape, dtype, fortran, info.header_offset + header + length, inner)


def mapped(path: pathlib.Path, array: Member) -> np.ndarray:
    """Memory-map an uncompressed array in the file."""
    if array.start is None:
        raise ValueError(f"mapped: {array.name} is compressed; read it with pieces")
    order = "F" if array.fortran else "C"
    return np.memmap(path, array.dtype, "r", offset=array.start, shape=array.shape, order=order)


def pieces(archive: np.lib.npyio.NpzFile, array: Member) -> Iterator[np.ndarray]:
    """Yield the examples of an array of an opened file, some at a time, in order, and compare the zip's checksum.

    Raises: zipfile.BadZipFile or another error that ``opened`` turns into a line, where the file is damaged.
    """
    contents: Any = archive.zip
    row = int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize
    step = max(1, CHUNK // max(1, row))
    with contents.open(array.inner) as stream:
        _header(stream)
        for start in range(0, array.shape[0] if row else 0, step):
            count = min(step, array.shape[0] - start)
            content = stream.read(count * row)
            if len(content) != count * row:
                raise EOFError(f"{array.name} has fewer values than its header says")
            yield np.frombuffer(content, array.dtype).reshape(count, *array.shape[1:])
        if stream.read(1):  # also makes zipfile compare the checksum
            raise zipfile.BadZipFile(f"{array.name} has more values than its header says")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _unusable(path: pathlib.Path, name: str, error: Exception, remedy: str) -> UserError:
    if "pickle" in str(error):
        return UserError(f"{path}: {name} holds pickled Python objects, which are never loaded; {remedy}")
    return UserError(f"{path}: {name} cannot be read ({error}){'; ' if remedy else ''}{remedy}")
