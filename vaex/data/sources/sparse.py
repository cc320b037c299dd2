"""Sparse matrices in the .npz files of ``scipy.sparse.save_npz``: rows become dense as they are read, never all of them."""

from __future__ import annotations

import hashlib
import pathlib
import zipfile
from typing import Any, cast

import numpy as np

from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage import splits
from vaex.data.storage.archive import read_arrays
from vaex.data.storage.mapped_rows import MappedRows
from vaex.errors import UserError

PARTS = ("indptr", "indices", "data", "shape")
REMEDY = "write it with scipy.sparse.save_npz(path, matrix.tocsr())"
MOST_LEVELS = 2**16
PIECE = 2**22  # entries that are dense at a time where all are looked at


class SparseMatrix:
    """Compressed rows of a matrix [n, d] (CSR), of which indexing by row numbers makes an array.

    Example:
      >>> matrix = SparseMatrix(np.array([0, 1, 3]), np.array([2, 0, 1]), np.array([5, 7, 9]), (2, 3))
      >>> matrix[np.array([1, 0])].tolist()
      [[7, 9, 0], [0, 0, 5]]
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, shape: tuple[int, int]) -> None:
        self.indptr, self.indices, self.data, self.shape, self.dtype = indptr, indices, data, shape, data.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        starts, counts = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        places = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        dense = np.zeros((len(rows), self.shape[1]), self.dtype)
        np.add.at(dense, (np.repeat(np.arange(len(rows)), counts), self.indices[places]), self.data[places])
        return dense


def holds_sparse(path: str | pathlib.Path) -> bool:
    """Tell whether a file is an .npz file with the parts of a sparse matrix.

    Example:
      >>> holds_sparse("/nonexistent.npz")
      False
    """
    try:
        with zipfile.ZipFile(pathlib.Path(path).expanduser()) as archive:
            return {f"{part}.npy" for part in (*PARTS, "format")} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def load_sparse(path: str | pathlib.Path) -> Dataset:
    """Load a sparse matrix [n, d] of ``scipy.sparse.save_npz``, by rows or columns (CSR, CSC), and labels ``y`` [n] if any.

    Whole numbers from 0 are counts of up to 65,536 levels, entries that are all 1 are bits, others real numbers. A tenth of the
    rows each is split off for validation and test (``splits.split_off``).

    Args:
      path: of the file.
    Raises: UserError for a file that is damaged, or another kind of matrix.
    Example:
      >>> import tempfile
      >>> parts = {"indptr": np.arange(21), "indices": np.arange(20) % 3, "data": np.arange(20), "shape": [20, 3]}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/counts.npz", format=b"csr", **parts)
      ...     load_sparse(folder + "/counts.npz").spec.levels
      20
    """
    path = pathlib.Path(path).expanduser()
    with np.load(path, allow_pickle=False) as archive:
        kind = archive["format"].item()
        labelled = "y" in archive.files
    kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
    arrays = read_arrays(path, (*PARTS, *(["y"] if labelled else [])))
    matrix = _in_rows(path, kind, *(arrays[part] for part in PARTS))
    levels, kind_of_values, convert = _values(path, matrix)
    dtype = np.float32 if levels is None else np.uint8 if levels <= 256 else np.uint16
    base: Any = matrix
    rows = MappedRows(base, np.arange(len(matrix)), convert or (lambda raw: raw.astype(dtype)), matrix.shape[1:], dtype)
    stored = {"x": cast(np.ndarray, rows)}
    if labelled:
        stored["y"] = splits.class_labels(f"{path}: y", arrays["y"], len(matrix))
    parts = splits.split_off(stored, ("validation", "test"), str(path))
    parts = {split: parts[split] for split in splits.SPLITS}
    sizes = "_".join(str(len(part["x"])) for part in parts.values())
    spec = Spec(path.stem, matrix.shape[1:], kind_of_values, levels, splits.count_classes(str(path), parts))
    spec = spec._replace(data_hash=_hash(matrix, arrays.get("y")))
    return Dataset(parts, with_protocol(spec, f"{path.stem}_{sizes}_carved_validation_test"))


def _in_rows(
    path: pathlib.Path, kind: str, indptr: np.ndarray, indices: np.ndarray, data: np.ndarray, shape: np.ndarray
) -> SparseMatrix:
    """Check the parts of a matrix, and put those of one in columns in rows."""
    if kind not in ("csr", "csc"):
        raise UserError(f"{path}: is a sparse matrix in the format {kind!r}, expected csr or csc; {REMEDY}")
    size = tuple(int(side) for side in np.ravel(shape))
    along, across = size[:: 1 if kind == "csr" else -1] if len(size) == 2 else (0, 0)
    consistent = len(indptr) == along + 1 and indptr[0] == 0 and indptr[-1] == len(indices) == len(data)
    if (
        not consistent
        or np.any(np.diff(indptr) < 0)
        or (len(indices) and not 0 <= indices.min() <= indices.max() < across)
    ):
        raise UserError(f"{path}: the parts of its sparse matrix of shape {size} do not fit together; {REMEDY}")
    if data.dtype.kind not in "biuf" or not np.isfinite(data).all():
        raise UserError(f"{path}: its sparse matrix holds {data.dtype}, or numbers that are not finite; convert them")
    if kind == "csc":
        order = np.argsort(indices, kind="stable")
        counts = np.bincount(indices, minlength=across)
        columns = np.repeat(np.arange(along), np.diff(indptr))
        indptr, indices, data = np.concatenate([[0], np.cumsum(counts)]), columns[order], data[order]
    return SparseMatrix(indptr.astype(np.int64), indices, data, (size[0], size[1]))


def _values(path: pathlib.Path, matrix: SparseMatrix) -> tuple[int | None, str, Any]:
    """Return levels and kind of the values of a matrix, and the conversion of rows, None for that to their dtype."""
    data = matrix.data
    if data.dtype == bool or np.all(data == 1):
        return 2, "binary", lambda raw: (raw != 0).astype(np.uint8)
    if np.any(data < 0) or np.any(data != np.round(data)):
        return None, "real", None
    step = max(1, PIECE // max(1, matrix.shape[1]))
    pieces = (matrix[np.arange(start, min(start + step, len(matrix)))] for start in range(0, len(matrix), step))
    largest = int(max(piece.max(initial=0) for piece in pieces))  # entries at one place add up
    if largest >= MOST_LEVELS:
        raise UserError(
            f"{path}: counts reach {largest}, expected at most {MOST_LEVELS - 1}; divide or clip them first"
        )
    return max(2, largest + 1), "grey" if largest > 1 else "binary", None


def _hash(matrix: SparseMatrix, labels: np.ndarray | None) -> str:
    digest = hashlib.sha256(f"sparse {matrix.shape}\n".encode())
    for array in (matrix.indptr, matrix.indices, matrix.data, *([] if labels is None else [labels])):
        digest.update(f"{array.dtype.newbyteorder('<').str}\n".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()[:16]
