"""Data that comes as batches: a function of the step, or anything that can be iterated over."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from vaex.core import Feed
from vaex.data.conditions import are_conditions, checked_conditions, described_conditions
from vaex.data.measure import described
from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage import splits, values
from vaex.data.storage.layouts import arranged, is_volume
from vaex.errors import UserError

HELD_OUT = 500  # examples at least, of each split that is held out of the first batches

Batch: TypeAlias = dict[str, np.ndarray]
Batches: TypeAlias = Callable[..., Any] | Iterable[Any]


class BatchStream:
    """Source of batches for training, which a ``Dataset`` holds as its ``source``.

    Args:
      batches: function of the step, or an iterable of batches.
      columns: "x", and "y" where labelled -> its name in a batch; a batch may also be x, or (x, y).
      offset: batches that come before that of step 0.
      reading: how axes and values are read.
    """

    def __init__(
        self,
        batches: Batches,
        columns: Mapping[str, str],
        offset: int = 0,
        reading: values.Reading = values.AS_THEY_ARE,
    ) -> None:
        self._columns, self.offset, self.reading = dict(columns), offset, reading
        self._iterator: Iterator[Any] = iter(())
        self._next, self._kept = 0, dict[int, Batch]()
        self.function = batches if callable(batches) and not isinstance(batches, Iterable) else None
        self._iterable: Iterable[Any] = batches if isinstance(batches, Iterable) else ()
        if self.function is not None and not inspect.signature(self.function).parameters:
            raise UserError("from_batches: the function takes no argument; give a function of the step, or an iterable")
        self._takes_rows = self.function is not None and _needs_two(self.function)
        self.passes_once = self.function is None and isinstance(batches, Iterator)
        self.spec = Spec("batches", (), "grey")
        self.values: values.Values | None = None
        self.num_observations = 0
        self.batch_size = len(self.raw(0)["x"])

    def raw(self, index: int, rows: slice = slice(None)) -> Batch:
        """Return a batch as it comes, counted from the first of all; of a function that takes rows, these rows of it.

        The first one, that of step 0 and the newest one are kept, since training asks for their shapes again.

        Raises: UserError where there are no more, or an iterator has passed it.
        """
        if self.function is not None:
            given = (index, rows) if self._takes_rows else (index,)
            return self._arrays(index, self.function(*given), rows)
        if index in self._kept:
            return self._kept[index]
        if index < self._next or not self._next:
            if self._next and self.passes_once:
                raise UserError(
                    f"from_batches: the iterator has passed batch {index}; continuing a run needs a function of the step, or an "
                    "object that can be iterated over again, such as a data loader"
                )
            self._iterator, self._next = iter(self._iterable), 0
        batch = None
        while self._next <= index:
            batch = self._arrays(self._next, self._following())
            self._next += 1
        assert batch is not None
        self._kept = {kept: self._kept[kept] for kept in (0, self.offset) if kept in self._kept} | {index: batch}
        return batch

    def _following(self) -> Any:
        """Return the next batch, beginning again where an iterable that can be repeated ends."""
        for _ in range(2):
            try:
                return next(self._iterator)
            except StopIteration:
                if self.passes_once:
                    break
                self._iterator = iter(self._iterable)
        raise UserError(
            f"from_batches: there are only {self._next} batches; give fewer steps, or an iterator that does not end"
        )

    def _arrays(self, index: int, batch: object, rows: slice = slice(None)) -> Batch:
        """Return the arrays of a batch, whose shapes are those of these rows of the first one."""
        if isinstance(batch, Mapping):
            missing = [name for name in self._columns.values() if name not in batch]
            if missing:
                raise UserError(
                    f"from_batches: batch {index} has no {missing[0]!r}, but {', '.join(map(str, batch))}; name the columns, as "
                    'x="image", y="label"'
                )
            columns = {name: batch[column] for name, column in self._columns.items()}
        elif isinstance(batch, tuple | list):
            columns = dict(zip(("x", "y"), batch, strict=False))
            columns = {name: column for name, column in columns.items() if name in self._columns}
        else:
            columns = {"x": batch}
        if set(columns) != set(self._columns):
            raise UserError(f"from_batches: batch {index} has no labels; give batches (x, y), or leave y out")
        arrays = {name: np.asarray(column) for name, column in columns.items()}
        arrays["x"] = arranged(f"from_batches: x of batch {index}", arrays["x"], self.reading.layout)
        first = self._kept.get(0, arrays)
        if self._takes_rows and 0 in self._kept:
            first = {name: array[rows] for name, array in first.items()}
        for name, array in arrays.items():
            if array.shape != first[name].shape or array.dtype != first[name].dtype:
                raise UserError(
                    f"from_batches: {name} of batch {index} is {array.dtype} of shape {array.shape}, but of the first "
                    f"{first[name].dtype} of shape {first[name].shape}; all batches need one shape: drop or pad the last"
                )
        if index == 0:
            self._kept[0] = arrays
        return arrays

    def stored(self, raw: Batch, index: int) -> Batch:
        """Return a batch as a data set stores it.

        Raises: UserError for values that are not of the kind of the first batches'.
        """
        assert self.values is not None
        kind = values.recognise(f"from_batches: batch {index}", {"x": raw["x"]}, value_range=self.reading.value_range)
        wider = kind.levels is not None and self.values.levels is not None and kind.levels > self.values.levels
        continuous = kind.levels is None and self.values.levels is not None
        if kind.missing > self.values.missing:
            raise UserError(
                f"from_batches: batch {index} has missing values, NaN, but the first ones and those to evaluate on have none; give "
                "validation= and test= that show some"
            )
        (low, high), (least, most) = kind.value_range or (0, 0), self.values.value_range or (0, 0)
        if wider or continuous or low < least or high > most or (kind.kind == "real") > (self.values.kind == "real"):
            raise UserError(
                f"from_batches: batch {index} holds {kind.kind} values of {kind.levels or 'continuous'} levels, but the first ones "
                f"{self.values.kind} values of {self.values.levels or 'continuous'} levels; give validation= and "
                "test= that show all kinds"
            )
        return _stored(f"batch {index}", self.values, raw, conditional=bool(self.spec.conditions))

    def feed(self, batch_size: int, data_seed: int = 0) -> Feed:
        """Return a feed of the batches; ``batch_size`` is theirs, and their order, so ``data_seed`` has no effect.

        Raises: UserError for another batch size.
        """
        if batch_size != self.batch_size:
            raise UserError(
                f"--batch_size={batch_size}: the batches hold {self.batch_size} examples each; leave it out"
            )

        def read(first_step: int, count: int, rows: slice) -> Batch:
            indices = range(first_step + self.offset, first_step + self.offset + count)
            batches = [self.stored(self.raw(index, rows), index) for index in indices]
            return {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

        def plan(first_step: int, count: int) -> Batch:
            return read(first_step, count, slice(None))

        def share(first_step: int, count: int, rows: slice) -> Batch:
            if self._takes_rows:
                return read(first_step, count, rows)
            return {name: array[:, rows] for name, array in plan(first_step, count).items()}

        return Feed({}, plan, lambda resident, row: dict(row), share)


def _needs_two(function: Callable[..., Any]) -> bool:
    """Return whether a function has two arguments by position without a default."""
    parameters = inspect.signature(function).parameters.values()
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return sum(parameter.default is parameter.empty and parameter.kind in positional for parameter in parameters) == 2


def from_batches(
    batches: Batches,
    *,
    x: str = "x",
    y: str | None = None,
    validation: object = None,
    test: object = None,
    name: str = "batches",
    examples_per_epoch: int = 0,
    reading: values.Reading = values.AS_THEY_ARE,
) -> Dataset:
    """Return batches as a data set; ``Dataset.from_batches`` describes the arguments."""
    columns = {"x": x} | ({} if y is None else {"y": y})
    stream = BatchStream(batches, columns, reading=reading)
    given = {"validation": validation, "test": test}
    missing = [split for split, arrays in given.items() if arrays is None]
    if missing and stream.function is None and not stream.passes_once:
        raise UserError(
            f"from_batches: give {missing[0]}=, arrays to evaluate on: batches that are iterated over again and again, perhaps in "
            "another order, would mix what is held out with what is trained on"
        )
    raw: dict[str, Batch] = {}
    each = math.ceil(HELD_OUT / stream.batch_size)
    for split, arrays in given.items():
        if arrays is None:
            held = [stream.raw(stream.offset + index) for index in range(each)]
            raw[split] = {column: np.concatenate([batch[column] for batch in held]) for column in columns}
            stream.offset += each
        else:
            raw[split] = _held_out(split, arrays, columns, reading.layout)
    raw["train"] = stream.raw(stream.offset)
    examples = {f"x of {split}": arrays["x"] for split, arrays in raw.items()}
    stream.values = values.recognise("from_batches", examples, value_range=reading.value_range)
    small = stream.values.levels is not None and stream.values.levels < 256 and not stream.values.value_range
    if small and stream.values.kind == "grey":  # later batches may have larger counts
        stream.values = stream.values._replace(levels=256)
    conditional = any(are_conditions(arrays["y"]) for arrays in raw.values() if "y" in arrays)
    stored = {split: _stored(split, stream.values, raw[split], conditional=conditional) for split in splits.SPLITS}
    conditions = described_conditions("from_batches", stored, None)
    classes = 0 if conditions else splits.count_classes("from_batches", stored)
    shape = stored["train"]["x"].shape[1:]
    spec = Spec(name, shape, stream.values.kind, stream.values.levels, classes, data_hash=splits.data_hash(stored))
    spec = spec._replace(
        missing=stream.values.missing,
        volume=is_volume(reading.layout),
        value_range=tuple(stream.values.value_range),
        conditions=conditions,
    )
    sizes = f"{name}_{len(stored['validation']['x'])}_{len(stored['test']['x'])}"
    spec = described(Dataset(stored, with_protocol(spec, sizes)))
    stream.spec, stream.num_observations = spec, examples_per_epoch
    return Dataset(stored, stream.spec._replace(num_training_examples=examples_per_epoch), stream)


def _held_out(split: str, given: object, columns: Mapping[str, str], layout: str) -> Batch:
    """Return arrays to evaluate on, which are written as a batch is."""
    if isinstance(given, Mapping):
        arrays = {name: given[column] for name, column in columns.items() if column in given}
    else:
        arrays = dict(zip(("x", "y"), given if isinstance(given, tuple) else (given,), strict=False))
    if set(arrays) != set(columns):
        raise UserError(
            f"from_batches: {split} has {' and '.join(arrays) or 'none of the columns'}, expected {' and '.join(columns)}"
        )
    held_out = {name: np.asarray(array) for name, array in arrays.items()}
    return held_out | {"x": arranged(f"from_batches: x of {split}", held_out["x"], layout)}


def _stored(where: str, kind: values.Values, raw: Batch, *, conditional: bool) -> Batch:
    arrays = {"x": values.stored(kind, raw["x"])}
    if "y" in raw:
        read = checked_conditions if conditional else splits.class_labels
        arrays["y"] = read(f"from_batches: {where}: y", raw["y"], len(raw["x"]))
    return arrays
