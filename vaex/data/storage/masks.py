"""Masks of observed entries beside examples: what is not observed is missing, NaN."""

from __future__ import annotations

import numpy as np

from vaex.errors import UserError

MASK = "mask"  # array beside x, also with the ending of a split


def masked(where: str, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return examples as floats that are NaN where the mask is 0.

    Args:
      where: the mask, named in errors.
      x: examples [n, ...].
      mask: 1 or True where an entry is observed, of the shape of x.
    Raises: UserError for a mask of another shape, or of other values than 0 and 1.
    Example:
      >>> masked("a.npz: mask", np.array([[5, 6], [7, 8]]), np.array([[1, 0], [1, 1]])).tolist()
      [[5.0, nan], [7.0, 8.0]]
    """
    mask = np.asarray(mask)
    if mask.shape != x.shape:
        raise UserError(f"{where} has shape {mask.shape}, expected {x.shape}, that of x: 1 where an entry is observed")
    if mask.dtype.kind not in "biuf" or not np.all((mask == 0) | (mask == 1)):
        raise UserError(
            f"{where} holds other values than 0 and 1; store 1 where an entry is observed, 0 where it is missing"
        )
    if x.dtype.kind not in "biuf":
        return x  # which ``values.check`` refuses
    return np.where(mask == 1, x.astype(np.float32 if x.dtype.itemsize <= 4 else np.float64), np.nan)
