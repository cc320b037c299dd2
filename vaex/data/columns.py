"""Columns of a table: their types, inferred or given, and the codes by which a data set stores them.

A table is stored as float32 [n, d], one entry for each column: numbers as they are, categories as codes 0, 1, ..., NaN where an
entry is missing.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaex.errors import UserError, nearest

REALS = ("gaussian", "student_t", "log_normal")
COUNTS = ("poisson", "negative_binomial", "zero_inflated_poisson", "zero_inflated_negative_binomial")
CODED = ("bernoulli", "categorical", "ordinal", "constant")  # stored as codes of their categories
TYPES = (*REALS, *COUNTS, *CODED)
DROP = "drop"
DTYPES = ("float", "int", "bool", "str")  # of a column's values
MOST_CATEGORIES = 1000
FEW_INTEGERS = 10  # different integers that are read as categories, where each stands for ten rows at least
LARGEST_EXACT = 2**24  # integers that float32 holds apart
UPPER, MOST_UPPER, LEAST_DISPERSION = 0.75, 0.1, 0.7  # of counts, as in ``vaex.data.measure.are_counts``


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      name: as the table has it.
      type: one of ``TYPES``, the family of p(x|z).
      dtype: one of ``DTYPES``, of its values.
      categories: values that the codes 0, 1, ... stand for, as text; () of numbers.
      location: mean over the training rows of what ``scaled`` has before it is standardised.
      scale: standard deviation of the same, or 1 where that is 0.

    Example:
      >>> Column("size", "ordinal", "str", ("small", "large")).categories
      ('small', 'large')
    """

    name: str
    type: str
    dtype: str = "float"
    categories: tuple[str, ...] = ()
    location: float = 0.0
    scale: float = 1.0


def from_json(stored: Sequence[Any]) -> Column:
    """Return a column from the fields that a JSON file holds of it.

    Example:
      >>> from_json(["size", "ordinal", "str", ["small", "large"], 0.5, 0.5]).categories
      ('small', 'large')
    """
    try:
        name, kind, dtype, categories, location, scale = stored
    except ValueError:
        raise UserError(
            f"data.columns: {stored} has not the six fields of a column; put config.json back as it was"
        ) from None
    return Column(name, kind, dtype, tuple(categories), location, scale)


class Request(NamedTuple):
    """What a user asks of a column: a type, ``DROP`` or "" for the inferred one, and the order of an ordinal's categories."""

    type: str = ""
    order: tuple[str, ...] = ()


def parse_requests(text: str) -> dict[str, Request]:
    """Parse ``--columns``: NAME:TYPE joined by commas; an ordinal of texts has its order, as size:ordinal(small<large).

    Raises: UserError for a type that is not known.
    Example:
      >>> parse_requests("age:student_t,size:ordinal(small<large),id:drop")["size"]
      Request(type='ordinal', order=('small', 'large'))
    """
    requests: dict[str, Request] = {}
    for part in (part for part in text.split(",") if part.strip()):
        name, colon, kind = part.rpartition(":")
        kind, _, order = kind.strip().partition("(")
        if not colon or not name.strip() or kind not in (*TYPES, DROP) or (order and kind != "ordinal"):
            raise UserError(f"--columns={part}: expected NAME:TYPE; {nearest(kind, (*TYPES, DROP))}")
        ranked = tuple(entry.strip() for entry in order.removesuffix(")").split("<")) if order else ()
        requests[name.strip()] = Request(kind, ranked)
    return requests


def coded(where: str, name: str, raw: np.ndarray, request: Request | None = None) -> tuple[Column, np.ndarray]:
    """Return a column with its inferred or requested type, and its entries as float32 codes [n], NaN where missing.

    Args:
      where: the table, named in errors.
      name: of the column.
      raw: entries [n]: bools or numbers, NaN where missing; or objects, None where missing, of texts, bools or numbers.
      request: what the user asks for.
    Raises: UserError for entries that no type, or not the requested one, can hold.
    Example:
      >>> column, codes = coded("t.csv", "sex", np.array(["f", "m", None, "f"], object))
      >>> column.type, column.categories, codes.tolist()
      ('bernoulli', ('f', 'm'), [0.0, 1.0, nan, 0.0])
    """
    label, request = f"{where}: column {name!r}", request or Request()
    dtype, entries, observed = _entries(label, raw)
    given = entries[observed]
    if not given.size:
        raise UserError(f"{label} has no observed entry; leave it out with --columns={name}:drop")
    distinct = np.unique(given)
    kind = request.type or _inferred(label, name, dtype, given, distinct)
    _check(label, kind, dtype, given, distinct)
    values = np.full(len(entries), np.nan, np.float32)
    if kind not in CODED:
        values[observed] = given.astype(np.float32)
        return Column(name, kind, dtype), values
    categories = tuple(_text(dtype, value) for value in distinct)
    ranked = request.order or categories
    if kind == "ordinal" and dtype == "str" and (not request.order or set(categories) - set(ranked)):
        shown = "<".join(categories[:4])
        raise UserError(f"{label}: texts have no order; give that of all, as --columns={name}:ordinal({shown})")
    places = np.array([ranked.index(category) for category in categories], np.float32)
    values[observed] = places[np.searchsorted(distinct, given)]
    return Column(name, kind, dtype, ranked), values


def _entries(label: str, raw: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Return dtype, entries and which of them are observed."""
    if isinstance(raw, np.ma.MaskedArray):
        dtype, entries, observed = _entries(label, raw.filled(raw.data.flat[0]) if raw.size else raw.data)
        return dtype, entries, observed & ~np.ma.getmaskarray(raw)
    if raw.dtype.kind in "bu" or raw.dtype.kind == "i":
        return ("bool" if raw.dtype.kind == "b" else "int"), raw, np.ones(len(raw), bool)
    if raw.dtype.kind == "f":
        observed = ~np.isnan(raw)
        if np.isinf(raw).any():
            raise UserError(f"{label} has {int(np.isinf(raw).sum())} infinite entries; replace them")
        integral = bool(observed.any() and np.all(raw[observed] == np.round(raw[observed])))
        return ("int" if integral else "float"), raw, observed  # integers with gaps come as floats
    if raw.dtype.kind in "US":
        return "str", raw.astype(str), np.ones(len(raw), bool)
    if raw.dtype != object:
        raise UserError(f"{label} has dtype {raw.dtype}, expected numbers, bools or texts; convert it, or leave it out")
    observed = np.array([entry is not None and entry == entry for entry in raw], bool)  # NaN differs from itself
    kinds = {type(entry) for entry in raw[observed]}
    if kinds <= {str, np.str_}:
        return "str", np.where(observed, raw, "").astype(str), observed
    if kinds <= {bool, np.bool_}:
        return "bool", np.where(observed, raw, False).astype(bool), observed
    try:
        numbers = np.array([float(entry) if known else np.nan for entry, known in zip(raw, observed, strict=True)])
    except (TypeError, ValueError):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(
            f"{label} holds {names}, expected numbers, bools or texts; convert it, or leave it out with --columns (drop)"
        ) from None
    return _entries(label, numbers)


def _inferred(label: str, name: str, dtype: str, given: np.ndarray, distinct: np.ndarray) -> str:
    """Return the type of a column that follows from its entries."""
    if len(distinct) == 1:
        return "constant"
    if dtype == "str" and len(distinct) > max(20, len(given) // 2):
        raise UserError(
            f"{label} has {len(distinct)} different texts in {len(given)} rows, as names have; leave it out with "
            f"--columns={name}:drop, or read them as --columns={name}:categorical"
        )
    if len(distinct) == 2 and dtype != "float":
        return "bernoulli"
    if dtype in ("str", "bool"):
        return "categorical"
    if dtype == "float":
        return "gaussian"
    if len(distinct) <= FEW_INTEGERS and 10 * len(distinct) <= len(given):
        return "categorical"
    mean, high = float(given.mean()), float(given.max())
    low_tail = float(np.mean(given > UPPER * high)) <= MOST_UPPER
    counts = given.min() == 0 and low_tail and float(given.var()) >= LEAST_DISPERSION * mean
    return "negative_binomial" if counts else "gaussian"


def _check(label: str, kind: str, dtype: str, given: np.ndarray, distinct: np.ndarray) -> None:
    """Raise UserError where entries are not those of a type."""
    problem = None
    if kind in (*REALS, *COUNTS) and dtype == "str":
        problem = f"needs numbers, but it holds texts such as {str(distinct[0])!r}"
    elif kind == "log_normal" and distinct[0] <= 0:
        problem = f"needs positive numbers, but the least is {distinct[0]:g}"
    elif kind in COUNTS and (distinct[0] < 0 or np.any(distinct != np.round(distinct))):
        problem = "needs counts 0, 1, 2, ..."
    elif kind in COUNTS and distinct[-1] > LARGEST_EXACT:
        problem = f"needs counts up to 2^24, which float32 holds apart, but the largest is {distinct[-1]:g}"
    elif kind in REALS and max(-float(distinct[0]), float(distinct[-1])) > float(np.finfo(np.float32).max):
        problem = "needs numbers that fit in float32"
    elif kind == "constant" and len(distinct) > 1:
        problem = f"needs a single value, but it has {len(distinct)}"
    elif kind == "bernoulli" and len(distinct) != 2:
        problem = f"needs two different values, but it has {len(distinct)}"
    elif kind in CODED and len(distinct) > MOST_CATEGORIES:
        problem = f"needs at most {MOST_CATEGORIES} different values, but it has {len(distinct)}"
    if problem:
        raise UserError(f"{label}: {kind} {problem}; give another type with --columns, or leave it out (drop)")


def _text(dtype: str, value: np.generic) -> str:
    """Return a category as text, from which ``_value`` makes the value again."""
    if dtype == "int":
        return str(int(value))
    return repr(float(value)) if dtype == "float" else str(value)


def _value(dtype: str, text: str) -> str | bool | int | float:
    return {"str": str, "int": int, "float": float, "bool": lambda given: given == "True"}[dtype](text)


def measured(columns: Sequence[Column], x: np.ndarray) -> tuple[Column, ...]:
    """Return columns with location and scale of their entries in x [n, d], training rows; three digits are kept.

    Example:
      >>> measured([Column("a", "log_normal")], np.exp([[1.0], [3.0]], dtype=np.float32))[0][-2:]
      (2.0, 1.0)
    """
    result = []
    for index, column in enumerate(columns):
        if column.type in ("bernoulli", "categorical", "constant"):
            result.append(column)
            continue
        values = transformed(column.type, np.asarray(x[:, index], np.float64))
        values = values[~np.isnan(values)]
        deviation = float(values.std()) if values.size and values.min() < values.max() else 0.0
        spread = float(f"{deviation:.3g}") if deviation > 0 else 1.0
        mean = float(values.mean()) if values.size else 0.0
        location = float(f"{round(mean / spread, 3) * spread:.9g}") if deviation > 0 else mean
        result.append(column._replace(location=location, scale=spread))
    return tuple(result)


def transformed(kind: str, values: np.ndarray) -> np.ndarray:
    """Return entries of a column of this type as networks see them before they are standardised."""
    if kind == "log_normal":
        return np.log(values)
    return np.log1p(values) if kind in COUNTS else values


def codes_of(where: str, columns: Sequence[Column], table: Mapping[str, object]) -> np.ndarray:
    """Return rows of a table with these columns as float32 codes [n, d].

    Args:
      where: named in errors.
      columns: of the training data.
      table: name -> entries [n]; a column that is left out is missing in all rows.
    Raises: UserError for columns and categories that the training data did not have.
    Example:
      >>> codes_of("impute", [Column("sex", "bernoulli", "str", ("f", "m"))], {"sex": ["m", None]}).tolist()
      [[1.0], [nan]]
    """
    names = [column.name for column in columns]
    if unknown := [str(name) for name in table if name not in names]:
        raise UserError(f"{where}: no column {unknown[0]!r} in the training data; {nearest(unknown[0], names)}")
    lengths = {len(np.asarray(entries, object)) for entries in table.values()}
    if len(lengths) != 1:
        raise UserError(f"{where}: columns of {sorted(lengths)} rows; give as many entries in each")
    x = np.full((lengths.pop(), len(columns)), np.nan, np.float32)
    for index, column in enumerate(columns):
        if column.name not in table:
            continue
        label, raw = f"{where}: column {column.name!r}", table[column.name]
        array = raw if isinstance(raw, np.ma.MaskedArray) else np.asarray(raw, object)
        dtype, entries, observed = _entries(label, array)
        if column.type not in CODED:
            if dtype == "str" and observed.any():
                raise UserError(f"{label}: holds texts, expected numbers, as in the training data")
            x[observed, index] = entries[observed].astype(np.float32)
            continue
        known = {category: code for code, category in enumerate(column.categories)}
        texts = [_text(column.dtype, entry) if column.dtype != "str" else str(entry) for entry in entries[observed]]
        if strange := [text for text in texts if text not in known]:
            raise UserError(
                f"{label}: {strange[0]!r} is no category of the training data; {nearest(strange[0], known)}"
            )
        x[observed, index] = [known[text] for text in texts]
    return x


def check_codes(where: str, columns: Sequence[Column], x: np.ndarray) -> None:
    """Raise UserError for codes [n, d] that are not those of their columns; NaN is a missing entry.

    Example:
      >>> check_codes("encode", [Column("sex", "bernoulli", "str", ("f", "m"))], np.array([[2.0]]))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: encode: column 'sex' holds 2, expected codes 0 to 1, NaN where missing; ...
    """
    for index, column in enumerate(columns):
        values = x[:, index][~np.isnan(x[:, index])]
        if column.categories:
            wrong = (values != np.round(values)) | (values < 0) | (values >= len(column.categories))
            expected = f"codes 0 to {len(column.categories) - 1}"
        elif column.type in COUNTS:
            wrong, expected = (values != np.round(values)) | (values < 0), "counts"
        else:
            wrong = np.isinf(values) | ((column.type == "log_normal") & (values <= 0))
            expected = "positive numbers" if column.type == "log_normal" else "finite numbers"
        if wrong.any():
            raise UserError(
                f"{where}: column {column.name!r} holds {values[wrong][0]:g}, expected {expected}, NaN where missing; or give the "
                "table itself, a mapping of columns"
            )


def as_table(columns: Sequence[Column], x: np.ndarray) -> dict[str, np.ndarray]:
    """Return codes [n, d] as a table: name -> entries [n], with the values and dtypes that the columns have.

    Categories are those of the nearest code, integers and counts are rounded; missing entries are NaN of floats, None of others.

    Example:
      >>> columns = [Column("sex", "bernoulli", "str", ("f", "m")), Column("age", "gaussian", "int")]
      >>> {name: entries.tolist() for name, entries in as_table(columns, np.array([[0.9, 30.2]])).items()}
      {'sex': ['m'], 'age': [30]}
    """
    table: dict[str, np.ndarray] = {}
    for index, column in enumerate(columns):
        codes = np.asarray(x)[:, index]
        missing = np.isnan(codes)
        if column.categories:
            values = np.empty(len(column.categories), object)
            values[:] = [_value(column.dtype, category) for category in column.categories]
            entries = values[np.clip(np.nan_to_num(codes).round().astype(int), 0, len(values) - 1)]
        elif column.dtype == "int" or column.type in COUNTS:
            entries = np.nan_to_num(codes.astype(np.float64)).round().astype(np.int64)
        else:
            table[column.name] = codes.astype(np.float32)
            continue
        if missing.any():
            entries = entries.astype(object)
            entries[missing] = None
        elif column.categories and column.dtype != "str":
            entries = entries.astype({"int": np.int64, "float": np.float64, "bool": bool}[column.dtype])
        table[column.name] = entries
    return table


def write_csv(path: str | os.PathLike[str], table: Mapping[str, np.ndarray]) -> None:
    """Write a table, name -> entries [n], as a CSV file with the names in its first line; missing entries are empty.

    Example:
      >>> import pathlib, tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     write_csv(folder + "/t.csv", {"a": np.array([1, None], object), "b": np.array(["u", "v"])})
      ...     pathlib.Path(folder, "t.csv").read_text()
      'a,b\\n1,u\\n,v\\n'
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        for row in zip(*table.values(), strict=True):
            writer.writerow(["" if entry is None or entry != entry else entry for entry in row])


def summary(columns: Sequence[Column], most: int = 6) -> str:
    """Return the types of columns in a line, each with its columns, and categories with their number.

    Example:
      >>> summary([Column("a", "gaussian"), Column("b", "categorical", "str", ("u", "v", "w")), Column("c", "gaussian")])
      'gaussian: a, c; categorical: b (3)'
    """
    parts = []
    for kind in TYPES:
        names = [
            f"{column.name} ({len(column.categories)})" if kind in ("categorical", "ordinal") else column.name
            for column in columns
            if column.type == kind
        ]
        more = f" and {len(names) - most} more" if len(names) > most else ""
        parts += [f"{kind}: {', '.join(names[:most])}{more}"] if names else []
    return "; ".join(parts)
