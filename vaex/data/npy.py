"""A user's own array from an .npy file, left on the disk: it may exceed the memory."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np

from vaex.data import arrays, values
from vaex.data.rows import Rows
from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.errors import UserError

CHUNK = 1 << 26  # bytes looked at at a time
REMEDY = 'write it with np.save("data.npy", images), of shape [n, h, w], [n, h, w, c] or [n, d]'


def load_npy(path: str | pathlib.Path) -> Dataset:
    """The data of an .npy file, memory-mapped: splits are ``Rows``, read batch by batch.

    Values are recognised as ``values.store`` says, and splits carved as out of an .npz file that holds the same array as x;
    there are no labels. All values are looked at once, a chunk at a time, and hashed on the way.

    Raises: UserError for anything that can't be used, with the remedy.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.save(folder + "/stripes.npy", np.tile(np.eye(8), [5, 1, 1]).reshape(5, 8, 8))
      ...     load_npy(folder + "/stripes.npy").spec.protocol
      'stripes_3_1_1_carved_validation_test binary'
    """
    path = pathlib.Path(path).expanduser()
    where = str(path)
    base = _open(path)
    witness, data_hash = _witness(where, base)
    stored, kind, levels = values.store(where, {"x": witness})
    example = stored["x"]
    convert = _converter(where, witness, example)
    parts = arrays.carve({"rows": np.arange(len(base))}, ("validation", "test"), where)
    splits = {
        split: {"x": cast(np.ndarray, Rows(base, parts[split]["rows"], convert, example.shape[1:], example.dtype))}
        for split in arrays.SPLITS
    }
    sizes = "_".join(str(len(splits[split]["x"])) for split in arrays.SPLITS)
    spec = Spec(path.stem, example.shape[1:], kind, levels=levels, data_hash=data_hash)
    return Dataset(splits, with_protocol(spec, f"{path.stem}_{sizes}_carved_validation_test"))


def _open(path: pathlib.Path) -> np.ndarray:
    """The memory-mapped array, of a dtype and rank that can be used."""
    if not path.is_file():
        problem = "is not a file" if path.exists() else "no such file"
        raise UserError(f"{path}: {problem}; check the path, which starts from {pathlib.Path.cwd()}")
    try:
        base: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from None
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: is not an .npy file of numbers, or was cut short ({error}); {REMEDY}") from None
    if not isinstance(base, np.ndarray):
        raise UserError(f"{path}: is not an .npy file; {REMEDY}")
    if base.ndim not in (2, 3, 4):
        raise UserError(f"{path}: has shape {base.shape}, expected [n, h, w], [n, h, w, c] or [n, d]; reshape it")
    values.store(str(path), {"x": np.zeros_like(base[:1])})  # refuses dtypes and shapes before anything is read
    return base


def _chunks(base: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive examples, CHUNK bytes at a time, and where each chunk starts."""
    size = max(1, CHUNK // max(1, base[:1].nbytes))
    for start in range(0, len(base), size):
        yield start, np.ascontiguousarray(base[start : start + size])


def _witness(where: str, base: np.ndarray) -> tuple[np.ndarray, str]:
    """A few examples from which ``values.store`` concludes what it would from all of them; and the hash of all.

    These are examples with the least and the largest value, one with a value that is neither the least nor the largest
    of the family's range, and one with a value off the grid of 256 levels.
    """
    digest = hashlib.sha256(f"{base.dtype.newbyteorder('<').str} {base.shape}\n".encode())
    top = 1 if base.dtype.kind == "f" else 255
    found: dict[str, np.ndarray] = {}
    low = high = None
    for start, chunk in _chunks(base):
        digest.update(chunk.astype(chunk.dtype.newbyteorder("<"), copy=False).data)
        flat = chunk.reshape(len(chunk), -1)
        finite = np.isfinite(flat).all(1)
        if not finite.all():
            raise UserError(
                f"{where}: example {start + int(np.argmin(finite))} has values that are NaN or infinite; remove such examples "
                "or replace the values"
            )
        lows, highs = flat.min(1), flat.max(1)
        if low is None or lows.min() < low:
            low, found["low"] = lows.min(), chunk[np.argmin(lows)]
        if high is None or highs.max() > high:
            high, found["high"] = highs.max(), chunk[np.argmax(highs)]
        if "between" not in found:
            between = ((flat != 0) & (flat != top)).any(1)
            if between.any():
                found["between"] = chunk[np.argmax(between)]
        if "off" not in found and top == 1 and _continuous(where, chunk):
            found["off"] = _one_continuous(where, chunk)
    return np.stack(list(found.values())), digest.hexdigest()[:16]


def _continuous(where: str, chunk: np.ndarray) -> bool:
    outside = chunk.min() < 0 or chunk.max() > 1
    return not outside and values.store(where, {"x": chunk})[2] is None


def _one_continuous(where: str, chunk: np.ndarray) -> np.ndarray:
    """One example of a chunk that holds a value off the grid, by halving."""
    while len(chunk) > 1:
        half = chunk[: len(chunk) // 2]
        chunk = half if _continuous(where, half) else chunk[len(chunk) // 2 :]
    return chunk[0]


def _converter(where: str, witness: np.ndarray, stored: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """From raw examples to stored ones: in the company of the witness, any batch is recognised as the whole is."""
    shape = stored.shape[1:]
    if stored.dtype == witness.dtype and np.array_equal(stored.reshape(witness.shape), witness):
        return lambda raw: raw.reshape(-1, *shape)
    return lambda raw: values.store(where, {"x": np.concatenate([witness, raw])})[0]["x"][len(witness) :]
