"""Conditions that are no classes: real numbers and attributes of 0 or 1 beside each example, stored as "y" [n, m]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaex.data.order import epoch_order
from vaex.errors import UserError

CONDITION_NAMES = "condition_names"  # an array beside y
MOST_CONDITIONS = 1000
KEPT = 100  # training examples whose conditions are kept, to be drawn from
QUANTILES = 0.05, 0.95  # of the training examples, between which figures move a condition
NAMED = 6  # conditions that a line names
ORDER_SEED = 0  # of the order in which examples are kept


class Condition(NamedTuple):
    """One number of a condition.

    Attributes:
      name: as the data has it, else y0, y1, ...
      binary: whether it is an attribute, 0 or 1; else a real number.
      location, scale: mean and standard deviation over the training examples, by which networks read a real number; 0 and 1 of an
        attribute, and 1 for a scale of 0.
      low, high: between which figures move it: quantiles of the training examples, 0 and 1 of an attribute.
      values: of up to ``KEPT`` training examples, the same ones for every condition.
    """

    name: str
    binary: bool = False
    location: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 1.0
    values: tuple[float, ...] = ()


def from_json(stored: Sequence[Any]) -> Condition:
    """Return a condition from the fields that a JSON file holds of it.

    Example:
      >>> from_json(["age", False, 41.0, 9.5, 20.0, 60.0, [33.0]]).values
      (33.0,)
    """
    try:
        *fields, values = stored
        return Condition(*fields, values=tuple(values))
    except (TypeError, ValueError):
        raise UserError(
            f"data.conditions: {stored} has not the seven fields of a condition; put config.json back as it was"
        ) from None


def are_conditions(y: np.ndarray) -> bool:
    """Return True for what cannot be class labels: real numbers, floats [n, 1], and several numbers of which not one alone is 1.

    Example:
      >>> are_conditions(np.array([0, 2, 1])), are_conditions(np.array([0.5, 2.0])), are_conditions(np.array([[1, 1], [0, 1]]))
      (False, True, True)
    """
    if y.dtype.kind not in "biuf" or not y.size:
        return False
    if y.ndim == 1:
        return y.dtype.kind == "f" and bool(np.any(np.isfinite(y) & (y != np.round(y))))
    if y.ndim != 2 or y.shape[1] == 1:
        return y.ndim == 2 and y.dtype.kind == "f"
    return not (np.all((y == 0) | (y == 1)) and np.all(y.sum(axis=1) == 1))  # else one-hot: classes


def checked_conditions(where: str, y: np.ndarray, n: int) -> np.ndarray:
    """Return conditions as float32 [n, m].

    Raises: UserError unless they are finite numbers, a row for each of n examples.
    Example:
      >>> checked_conditions("a.npz: y", np.array([0.5, 2.0]), 2).tolist()
      [[0.5], [2.0]]
    """
    rows = y[:, None] if y.ndim == 1 else y
    if rows.dtype.kind not in "biuf" or rows.ndim != 2 or len(rows) != n or rows.shape[1] > MOST_CONDITIONS:
        raise UserError(
            f"{where} has dtype {y.dtype} and shape {y.shape}, expected numbers of shape ({n}, m), up to "
            f"{MOST_CONDITIONS} for each example, as in the training split"
        )
    numbers = rows.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise UserError(
            f"{where} has NaN or infinity; conditions must be known: fill them in, or leave these examples out"
        )
    return numbers


def described_conditions(
    where: str, splits: Mapping[str, dict[str, np.ndarray]], names: np.ndarray | None
) -> tuple[Condition, ...]:
    """Return the conditions "y" [n, m] of the splits, with what is measured of the training examples; () for other labels.

    Raises: UserError where splits have different numbers of conditions, or names are not as many.
    """
    widths = {
        split: arrays["y"].shape[1] for split, arrays in splits.items() if "y" in arrays and arrays["y"].ndim == 2
    }
    if not widths:
        if names is not None:
            raise UserError(
                f"{where}: has {CONDITION_NAMES}, but y holds no conditions; give y [n, m], or leave them out"
            )
        return ()
    if len(set(widths.values())) > 1:
        raise UserError(f"{where}: splits have {widths} conditions, expected as many in every split")
    train = splits["train"]["y"].astype(np.float64)
    count = train.shape[1]
    texts = (
        tuple(f"y{index}" for index in range(count)) if names is None else tuple(map(str, np.asarray(names).ravel()))
    )
    if len(texts) != count or len(set(texts)) < count:
        raise UserError(f"{where}: {CONDITION_NAMES} are {', '.join(texts)}, expected {count} different ones")
    kept = train[epoch_order(ORDER_SEED, 0, len(train))[:KEPT]]
    return tuple(_described(name, train[:, index], kept[:, index]) for index, name in enumerate(texts))


def _described(name: str, column: np.ndarray, kept: np.ndarray) -> Condition:
    values = tuple(map(float, kept))
    if np.all((column == 0) | (column == 1)):
        return Condition(name, True, values=values)
    low, high = map(float, np.quantile(column, QUANTILES))
    scale = float(column.std())
    if low == high:
        low, high = float(column.min()), float(column.max())
    return Condition(name, False, float(column.mean()), scale if scale > 0 else 1.0, low, high, values)


def summary(conditions: Sequence[Condition]) -> str:
    """Return conditions in words, by kind.

    Example:
      >>> summary([Condition("glasses", True), Condition("age", low=20.0, high=60.5)])
      'attributes glasses; real numbers age (mostly 20 to 60.5)'
    """
    attributes = [condition.name for condition in conditions if condition.binary]
    reals = [f"{each.name} (mostly {each.low:.4g} to {each.high:.4g})" for each in conditions if not each.binary]
    parts = [(noun, names) for noun, names in (("attributes", attributes), ("real numbers", reals)) if names]
    return "; ".join(f"{noun} {_listed(names)}" for noun, names in parts)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
