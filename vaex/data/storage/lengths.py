"""Series of unequal lengths: what lies beyond the end of one is missing."""

from __future__ import annotations

import numpy as np

from vaex.errors import UserError

LENGTHS = "lengths"  # array beside x, also with the ending of a split


def without_padding(where: str, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return series as floats whose steps from their length on are NaN, missing.

    Args:
      where: the array of lengths, named in errors.
      x: series [n, t, c].
      lengths: of each, [n] integers from 1 to t.
    Raises: UserError for data that is no series, and for other lengths.
    Example:
      >>> without_padding("a.npz: lengths", np.ones((2, 3, 1)), np.array([3, 1]))[..., 0].tolist()
      [[1.0, 1.0, 1.0], [1.0, nan, nan]]
    """
    if x.ndim != 3:
        raise UserError(
            f"{where} are lengths of series, and x has examples of shape {x.shape[1:]}; read it with --kind=series"
        )
    lengths = np.asarray(lengths)
    valid = lengths.shape == (len(x),) and lengths.dtype.kind in "iu"
    if not valid or lengths.min() < 1 or lengths.max() > x.shape[1]:
        got = f"from {lengths.min()} to {lengths.max()}" if valid else f"{lengths.dtype} of shape {lengths.shape}"
        raise UserError(f"{where} are {got}, expected integers from 1 to {x.shape[1]}, one for each of {len(x)} series")
    if x.dtype.kind == "c" or x.dtype.kind not in "biuf":
        return x  # which ``values.check`` refuses
    padding = np.arange(x.shape[1])[None, :, None] >= lengths[:, None, None]
    return np.where(padding, np.float32(np.nan), x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64))
