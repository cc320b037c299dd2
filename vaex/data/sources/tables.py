"""Tables: CSV and Parquet files, and columns in memory."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from vaex.data import columns as columns_of_tables
from vaex.data.columns import DROP, Request
from vaex.data.conditions import are_conditions, described_conditions
from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage import splits
from vaex.errors import UserError, nearest

SUFFIXES = (".csv", ".parquet")
ABSENT = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")  # texts that stand for a missing entry


def load_table(path: str | pathlib.Path, columns: str | None = None, label_column: str | None = None) -> Dataset:
    """Load a CSV file, whose first line names the columns, or a Parquet file.

    Types of columns are inferred by ``vaex.data.columns.coded`` unless they are given. Validation and test splits are split off,
    a tenth of the rows each (``splits.split_off``).

    Args:
      path: of the file.
      columns: types of some columns, as ``vaex.data.columns.parse_requests`` reads them.
      label_column: a column of categories that becomes the label y rather than a part of x; or several columns, or one of real
        numbers, that become conditions.
    Raises: UserError for a file that cannot be read, and for columns that vaex cannot use.
    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = pathlib.Path(folder, "t.csv").write_text("a,b\\n" + "1.5,u\\n,v\\n0.5,u\\n" * 10)
      ...     load_table(folder + "/t.csv").spec.columns[1].categories
      ('u', 'v')
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        problem = "is not a file" if path.exists() else "no such file"
        raise UserError(f"{path}: {problem}; check the path, which starts from {pathlib.Path.cwd()}")
    return from_columns(_read(path), where=str(path), name=path.stem, columns=columns, label_column=label_column)


def from_columns(
    table: object,
    *,
    where: str,
    name: str,
    columns: str | None = None,
    label_column: str | None = None,
) -> Dataset:
    """Return a table in memory as a data set.

    Args:
      table: column name -> entries [n]; a mapping, or a data frame with ``items``.
      where: named in errors.
      name: for ``Spec.name``.
      columns, label_column: as in ``load_table``.
    Raises: UserError for columns that vaex cannot use.
    Example:
      >>> table = {"a": np.linspace(0.0, 1.5, 20), "b": ["u", "v"] * 10}
      >>> [column.type for column in from_columns(table, where="t", name="t").spec.columns]
      ['gaussian', 'bernoulli']
    """
    entries = _arrays(where, table)
    requests = columns_of_tables.parse_requests(columns or "")
    chosen = [] if not label_column else [label_column] if label_column in entries else label_column.split(",")
    for flag, given in (("columns", [*requests]), ("label_column", chosen)):
        if unknown := [column for column in given if column not in entries]:
            raise UserError(f"--{flag}={unknown[0]}: {where} has no such column; {nearest(unknown[0], entries)}")
    arrays: dict[str, np.ndarray] = {}
    label_names: tuple[str, ...] = ()
    condition_names = None
    if chosen:
        beside = {column: entries.pop(column) for column in dict.fromkeys(chosen)}
        if len(beside) > 1 or are_conditions(beside[chosen[0]]):
            arrays["y"], condition_names = _conditions(where, beside, requests)
        else:
            arrays["y"], label_names = _labels(where, chosen[0], beside[chosen[0]])
    kept = {column: raw for column, raw in entries.items() if requests.get(column, Request()).type != DROP}
    if not kept:
        raise UserError(f"{where}: no column is left; drop fewer")
    coded = [
        columns_of_tables.coded(where, column, raw, requests.get(column, Request())) for column, raw in kept.items()
    ]
    arrays["x"] = np.stack([codes for _, codes in coded], axis=1)
    held_out = splits.split_off(arrays, ("validation", "test"), where)
    parts = {split: held_out[split] for split in splits.SPLITS}
    described = columns_of_tables.measured([column for column, _ in coded], parts["train"]["x"])
    sizes = "_".join(str(len(part["x"])) for part in parts.values())
    spec = Spec(
        name, (len(described),), "real", num_classes=len(label_names), label_names=label_names, columns=described
    )
    conditions = described_conditions(where, parts, condition_names)
    missing = bool(np.isnan(arrays["x"]).any())
    spec = spec._replace(data_hash=splits.data_hash(parts), missing=missing, conditions=conditions)
    return Dataset(parts, with_protocol(spec, f"{name}_{sizes}_carved_validation_test"))


def _arrays(where: str, table: Any) -> dict[str, np.ndarray]:
    """Return the entries of each column; all columns have one length."""
    if not hasattr(table, "items"):
        raise UserError(f"{where}: is a {type(table).__name__}, expected a mapping of columns or a data frame")
    arrays: dict[str, np.ndarray] = {}
    for name, raw in table.items():
        entries = raw if isinstance(raw, np.ma.MaskedArray) else np.asarray(raw)
        if entries.ndim != 1:
            raise UserError(f"{where}: column {name!r} has shape {entries.shape}, expected one entry for each row")
        arrays[str(name)] = entries
    lengths = {len(entries) for entries in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(f"{where}: columns of {sorted(lengths)} rows, expected at least one column, all of one length")
    return arrays


def _labels(where: str, name: str, raw: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return labels [n], -1 where missing, and the names of the classes."""
    column, codes = columns_of_tables.coded(where, name, raw, Request("categorical"))
    return np.where(np.isnan(codes), -1, codes).astype(np.int32), column.categories


def _conditions(
    where: str, columns: Mapping[str, np.ndarray], requests: Mapping[str, Request]
) -> tuple[np.ndarray, np.ndarray]:
    """Return columns as conditions [n, m] and their names: numbers, two values as 0 and 1, and categories one-hot."""
    parts, names = [], []
    for name, raw in columns.items():
        column, codes = columns_of_tables.coded(where, name, raw, requests.get(name, Request()))
        if np.isnan(codes).any():
            lacking = int(np.isnan(codes).sum())
            raise UserError(
                f"--label_column={name}: {lacking} rows of {where} lack it; conditions must be known: fill them in"
            )
        if column.type == "categorical":
            parts.append(np.eye(len(column.categories), dtype=np.float32)[codes.astype(int)])
            names += [f"{name}={category}" for category in column.categories]
        else:
            parts.append(codes[:, None])
            names.append(f"{name}={column.categories[1]}" if column.type == "bernoulli" else name)
    return np.concatenate(parts, axis=1), np.array(names)


def _read(path: pathlib.Path) -> Mapping[str, np.ndarray]:
    """Read a file's columns."""
    import pyarrow as pa

    try:
        table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    except (pa.ArrowInvalid, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: cannot be read as {path.suffix[1:].lower()} ({reason}); expected a first line of names and as many entries "
            "in every line, or a Parquet file"
        ) from None
    names = table.column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: two columns are called {twice[0]!r}; rename one")
    return {name: _column(table.column(name)) for name in names}


def _read_csv(path: pathlib.Path) -> Any:
    from pyarrow import csv

    convert = csv.ConvertOptions(null_values=list(ABSENT), strings_can_be_null=True, quoted_strings_can_be_null=False)
    return csv.read_csv(path, convert_options=convert)


def _read_parquet(path: pathlib.Path) -> Any:
    from pyarrow import parquet

    return parquet.read_table(path)


def _column(column: Any) -> np.ndarray:
    """Return a column of Arrow's as an array that ``coded`` takes."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return cast(np.ndarray, column.to_numpy())
    if pa.types.is_decimal(kind):
        return cast(np.ndarray, column.cast(pa.float64()).to_numpy())
    entries = np.empty(len(column), object)
    entries[:] = column.to_pylist()
    return entries
