"""Arrays in memory as a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaex.data.conditions import CONDITION_NAMES
from vaex.data.spec import Dataset
from vaex.data.storage import values
from vaex.data.storage.assemble import RawSplit, assemble
from vaex.data.storage.known_factors import FACTOR_NAMES, FACTORS
from vaex.data.storage.layouts import ARRAYS, arranged
from vaex.data.storage.lengths import LENGTHS, without_padding
from vaex.data.storage.masks import MASK, masked
from vaex.data.storage.splits import SPLITS
from vaex.errors import UserError, nearest

NAMES = tuple(
    f"{name}{end}" for name in ("x", "y", FACTORS, LENGTHS, MASK) for end in ("", *(f"_{split}" for split in SPLITS))
)


def from_arrays(
    arrays: Mapping[str, Any],
    *,
    name: str = "arrays",
    label_names: Sequence[str] = (),
    reading: values.Reading = values.AS_THEY_ARE,
) -> Dataset:
    """Return arrays as a data set, read as those of an .npz file are.

    Args:
      arrays: "x", or "x_train" and perhaps "x_validation" and "x_test": [n, h, w], [n, h, w, c] or [n, d], of any kind that
        ``numpy.asarray`` takes; labels "y", "y_train", ...: integers [n], -1 for unlabelled, or texts; or conditions, real
        numbers [n] or numbers [n, m], with "condition_names" [m]; known factors "factors", "factors_train", ...: integers
        [n, f], with "factor_names" [f]; lengths of series "lengths", ...: [n]; masks "mask", "mask_train", ... of the
        shape of x, 1 where an entry is observed, which masked arrays bring. A missing validation or test split is split off
        the training examples, a tenth each.
      name: of the data in reports.
      label_names: names of the classes.
      reading: how axes, values and labels are read.
    Raises: UserError for arrays that vaex cannot use, with the remedy.
    Example:
      >>> from_arrays({"x": np.tile(np.eye(8), [5, 1, 1]).reshape(5, 8, 8)}, name="stripes").spec.protocol
      'stripes_3_1_1_carved_validation_test binary'
    """
    unknown = [key for key in arrays if key not in (*NAMES, CONDITION_NAMES, FACTOR_NAMES)]
    if unknown:
        raise UserError(f"{name}: has an array called {unknown[0]!r}; {nearest(str(unknown[0]), NAMES)}. Rename it")
    by_name = {_split(key): key for key in arrays if key.startswith("x")}
    for key in arrays:
        if key in ("x", "y", FACTORS, LENGTHS, MASK) and f"{key}_train" in arrays:
            raise UserError(f"{name}: has both {key} and {key}_train, which mean the same; keep one")
        if key.startswith(("y", FACTORS, LENGTHS, MASK)) and _split(key) not in by_name:
            raise UserError(f"{name}: has {key} but no x_{_split(key)}; give both or neither")
    if "train" not in by_name:
        raise UserError(f"{name}: has no array x or x_train; give x of shape {ARRAYS}")
    raw = {
        split: RawSplit(key, arranged(f"{name}: {key}", _array(name, key, arrays[key]), reading.layout))
        for split, key in by_name.items()
    }
    for key in arrays:
        if key.startswith("y"):
            raw[_split(key)] = raw[_split(key)]._replace(y_name=key, y=_array(name, key, arrays[key]))
        elif key.startswith(FACTORS):
            raw[_split(key)] = raw[_split(key)]._replace(factors_name=key, factors=_array(name, key, arrays[key]))
        elif key.startswith(LENGTHS):
            split, lengths = _split(key), _array(name, key, arrays[key])
            raw[split] = raw[split]._replace(x=without_padding(f"{name}: {key}", raw[split].x, lengths))
        elif key.startswith(MASK):
            split, where = _split(key), f"{name}: {key}"
            mask = arranged(where, _array(name, key, arrays[key]), reading.layout)
            raw[split] = raw[split]._replace(x=masked(where, raw[split].x, mask))
    names = arrays.get(FACTOR_NAMES)
    return assemble(
        name,
        name,
        raw,
        protocol=name,
        label_names=tuple(label_names),
        factor_names=names,
        condition_names=arrays.get(CONDITION_NAMES),
        reading=reading,
    )


def _split(key: str) -> str:
    """Return the split of an array's name; "x" stands for "x_train".

    Example:
      >>> _split("y"), _split("x_test")
      ('train', 'test')
    """
    return key.partition("_")[2] or "train"


def _array(name: str, key: str, source: object) -> np.ndarray:
    if isinstance(source, np.ma.MaskedArray) and np.ma.is_masked(source):
        return masked(f"{name}: mask of {key}", np.ma.getdata(source), ~np.ma.getmaskarray(source))
    try:
        array = np.asarray(source)
    except Exception as error:
        raise UserError(f"{name}: {key} is no array ({type(source).__name__}: {error}); give a NumPy array") from None
    if array.dtype == object and key.startswith("y") and all(isinstance(entry, str) for entry in array.ravel()):
        return array.astype(str)
    if array.dtype == object:
        raise UserError(f"{name}: {key} is a {type(source).__name__} of objects of different shapes; give one array")
    # a copy, so that changing the caller's array later does not change the run
    return array.copy() if array is source or array.base is not None else array
