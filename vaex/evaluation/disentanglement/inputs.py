"""Checked codes and factors, and the bins in which codes are counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

BINS = 20


def check_codes(name: str, codes: ArrayLike, least: int = 2) -> np.ndarray:
    """Return codes as float64 [n, d].

    Raises: ValueError unless they are finite and [n, d] with n >= ``least`` and d >= 1.
    """
    checked = np.asarray(codes, np.float64)
    if checked.ndim != 2 or len(checked) < least or checked.shape[1] < 1:
        raise ValueError(f"{name}: codes has shape {checked.shape}, expected [n, d] with n >= {least} and d >= 1")
    if not np.isfinite(checked).all():
        raise ValueError(f"{name}: codes holds NaN or infinity; look at the encoder first")
    return checked


def check(name: str, codes: ArrayLike, factors: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return codes as float64 [n, d], and factors as int64 [n, f] whose values are numbered from 0 in their order.

    Raises: ValueError for shapes that disagree, values that are not finite, factors that are no integers or never vary.
    """
    checked, values = check_codes(name, codes), np.asarray(factors)
    if values.ndim != 2 or len(values) != len(checked) or values.shape[1] < 1:
        raise ValueError(
            f"{name}: factors has shape {values.shape}, expected [{len(checked)}, f] like codes {checked.shape}; give a row of "
            "factors for each code"
        )
    if values.dtype.kind not in "iub":
        raise ValueError(f"{name}: factors has dtype {values.dtype}, expected integers; put continuous factors in bins")
    numbered = np.stack([np.unique(column, return_inverse=True)[1].ravel() for column in values.T], axis=1)
    if constant := np.flatnonzero(numbered.max(axis=0) == 0).tolist():
        raise ValueError(f"{name}: factors {constant} have a single value; leave them out")
    return checked, numbered.astype(np.int64)


def discretize(codes: ArrayLike, bins: int = BINS) -> np.ndarray:
    """Return the number of the bin of each code, int64 [n, d]: ``bins`` of equal width from a latent's least to its largest code.

    A latent that is constant is in bin 0.

    Raises: ValueError unless codes are finite [n, d], or for fewer than 2 bins.
    Example:
      >>> discretize([[0.0, 3.0], [0.4, 3.0], [1.0, 3.0]], bins=2).tolist()
      [[0, 0], [0, 0], [1, 0]]
    """
    if bins < 2:
        raise ValueError(f"discretize: bins is {bins}, expected at least 2")
    checked = check_codes("discretize", codes, least=1)
    least = checked.min(axis=0)
    width = checked.max(axis=0) - least
    share = np.divide(checked - least, width, out=np.zeros_like(checked), where=width > 0)
    return np.minimum((share * bins).astype(np.int64), bins - 1)


def split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which examples a predictor is fitted on, and on which it is tested: half each, in an order drawn by ``seed``."""
    order = np.random.default_rng(seed).permutation(n)
    return order[: n // 2], order[n // 2 :]


def top_gap(scores: np.ndarray) -> np.ndarray:
    """Largest minus second largest along the first axis; where there is one entry, that entry."""
    ordered = np.sort(scores, axis=0)
    return ordered[-1] - (ordered[-2] if len(ordered) > 1 else 0.0)
