"""Known factors of a user's examples: integers beside each, which need form no full grid."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vaex.errors import UserError

FACTORS, FACTOR_NAMES = "factors", "factor_names"  # arrays beside x and y, the former also with the ending of a split


def checked_factors(where: str, factors: np.ndarray, n: int) -> np.ndarray:
    """Return factors as int32 [n, f].

    Raises: UserError unless they are whole numbers, a row for each of n examples.
    Example:
      >>> checked_factors("a.npz: factors", np.array([[2.0, 0.0], [1.0, 5.0]]), 2).tolist()
      [[2, 0], [1, 5]]
    """
    if factors.ndim != 2 or len(factors) != n or factors.shape[1] < 1:
        raise UserError(f"{where} has shape {factors.shape}, expected ({n}, f), a row for each example")
    integral = factors.dtype.kind in "iub" or (factors.dtype.kind == "f" and bool(np.all(factors == np.round(factors))))
    if not integral or (factors.size and np.abs(factors.astype(np.float64)).max() >= 2**31):
        raise UserError(
            f"{where} has dtype {factors.dtype} and values that are not whole; put continuous factors in bins"
        )
    return factors.astype(np.int32)


def factor_names_of(
    where: str, splits: Mapping[str, dict[str, np.ndarray]], names: np.ndarray | None
) -> tuple[str, ...]:
    """Return the names of the splits' factors: those given, else factor0, factor1, ...; () where the splits have none.

    Raises: UserError where splits have different numbers of factors, or names are not as many.
    """
    widths = {split: arrays[FACTORS].shape[1] for split, arrays in splits.items() if FACTORS in arrays}
    if not widths:
        if names is not None:
            raise UserError(f"{where}: has {FACTOR_NAMES} but no {FACTORS}; give both or neither")
        return ()
    if len(widths) < len(splits) or len(set(widths.values())) > 1:
        raise UserError(f"{where}: splits have {widths} factors, expected as many for every split; give all or none")
    count = next(iter(widths.values()))
    if names is None:
        return tuple(f"factor{index}" for index in range(count))
    texts = tuple(str(name) for name in np.asarray(names).ravel())
    if len(texts) != count or len(set(texts)) < count:
        raise UserError(f"{where}: {FACTOR_NAMES} are {', '.join(texts)}, expected {count} different ones")
    return texts
