"""A user's array in an .npy file, which stays on the disk: it may exceed the memory."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from vaex.data.spec import Dataset
from vaex.data.storage import values
from vaex.data.storage.archive import HEADER_ERRORS
from vaex.data.storage.assemble import RawSplit, assemble
from vaex.data.storage.layouts import ARRAYS, arranged
from vaex.data.storage.splits import in_chunks
from vaex.errors import UserError

REMEDY = f'write it with np.save("data.npy", images), of shape {ARRAYS}'


def load_npy(path: str | pathlib.Path, reading: values.Reading = values.AS_THEY_ARE) -> Dataset:
    """Load an .npy file, memory-mapped: splits are ``MappedRows``, read batch by batch.

    Values are recognised as ``values.recognise`` says. Splits are those of an .npz file that holds the same array as x;
    there are no labels. All values are read once, a chunk at a time, and hashed in the same pass.

    Args:
      path: of the file.
      reading: how axes and values are read.
    Raises: UserError for data that vaex cannot use, with the remedy.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(folder + "/stripes.npy", np.tile(np.eye(8), [5, 1, 1]).reshape(5, 8, 8))
      ...     load_npy(folder + "/stripes.npy").spec.protocol
      'stripes_3_1_1_carved_validation_test binary'
    """
    path = pathlib.Path(path).expanduser()
    file = _open(path)
    base = arranged(f"{path}: x", file, reading.layout)
    shape = file.shape if reading.layout in ("auto", "hwc") else base.shape
    how = "" if reading.layout in ("auto", "hwc", "chw", "vector") else f" {reading.layout}"
    how += f" {reading.value_range}" * (reading.value_range != "auto")
    digest = hashlib.sha256(f"{base.dtype.newbyteorder('<').str} {shape}{how}\n".encode())

    def hashed() -> Iterator[np.ndarray]:
        for chunk in in_chunks(base):
            digest.update(np.ascontiguousarray(chunk, base.dtype.newbyteorder("<")).data)
            yield chunk

    chunks = hashed()
    recognised = values.recognise(str(path), {"x": base}, chunks, reading.value_range)
    for _ in chunks:  # recognition may stop early; the hash covers all values
        pass
    data_hash = digest.hexdigest()[:16]
    raw = {"train": RawSplit("x", base)}
    return assemble(
        str(path), path.stem, raw, protocol=path.stem, recognised=recognised, data_hash=data_hash, reading=reading
    )


def _open(path: pathlib.Path) -> np.ndarray:
    """Open the file as a memory-mapped array."""
    if not path.is_file():
        problem = "is not a file" if path.exists() else "no such file"
        raise UserError(f"{path}: {problem}; check the path, which starts from {pathlib.Path.cwd()}")
    try:
        base: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    except (*HEADER_ERRORS, EOFError) as error:
        raise UserError(f"{path}: is not an .npy file of numbers, or was cut short ({error}); {REMEDY}") from None
    if not isinstance(base, np.ndarray):
        raise UserError(f"{path}: is not an .npy file; {REMEDY}")
    return base
