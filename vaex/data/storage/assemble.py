"""Assembly of a Dataset from raw arrays: values, labels, missing splits, hash and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vaex.data.conditions import are_conditions, checked_conditions, described_conditions
from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage import known_factors, layouts, splits, values
from vaex.data.storage.cache import KeptValues
from vaex.data.storage.decoded import Decoded
from vaex.errors import UserError


class RawSplit(NamedTuple):
    """One split as its source stores it: examples, labels and factors if any, and their names in errors.

    Example:
      >>> RawSplit("x_train", np.zeros([2, 4])).y is None
      True
    """

    x_name: str
    x: np.ndarray
    y_name: str = ""
    y: np.ndarray | None = None
    factors_name: str = ""
    factors: np.ndarray | None = None


def assemble(
    where: str,
    name: str,
    raw: Mapping[str, RawSplit],
    *,
    protocol: str,
    label_names: tuple[str, ...] = (),
    kept_values: KeptValues | None = None,
    recognised: values.Values | None = None,
    data_hash: str = "",
    factor_names: np.ndarray | None = None,
    condition_names: np.ndarray | None = None,
    reading: values.Reading = values.AS_THEY_ARE,
) -> Dataset:
    """Recognise values, check labels, split missing splits off the training examples, and describe the result in a Spec.

    Memory-mapped examples stay on the disk: their splits are ``MappedRows``.

    Args:
      where: the file or data set, named in errors.
      name: for ``Spec.name``.
      raw: "train" and perhaps "validation" and "test".
      protocol: start of the protocol; the splits' sizes, the names of those split off ("carved"), and the kind of values
        follow.
      label_names: of the classes, where known.
      kept_values: keeps the results of passes over all examples.
      recognised: the kind of values, where known; by default ``values.recognise`` tells.
      data_hash: hash of the data, where known; by default ``splits.data_hash`` of all splits.
      factor_names: of the factors' columns, where known.
      condition_names: of the columns of labels that are conditions, where known.
      reading: how values and labels are read, and whether examples are volumes.
    Raises: UserError for data that vaex cannot use, with the remedy.
    Example:
      >>> x = np.arange(40).reshape(10, 4) / 40
      >>> assemble("a.npz", "a", {"train": RawSplit("x", x)}, protocol="a").spec.protocol
      'a_8_1_1_carved_validation_test continuous'
    """
    get = kept_values.get if kept_values else lambda name, compute: compute()
    examples = {split.x_name: split.x for split in raw.values()}
    if recognised is None:
        recognised = values.Values(
            *get("recognised", lambda: values.recognise(where, examples, value_range=reading.value_range))
        )
    arrays = {name: {"x": values.stored(recognised, split.x)} for name, split in raw.items()}
    texts = _add_labels_and_factors(where, raw, arrays, reading.first_label)
    label_names, first_label = (texts, 0) if texts else (label_names, reading.first_label)
    names = known_factors.factor_names_of(where, arrays, factor_names)
    unlabelled = [split.x_name for split in raw.values() if split.y is None]
    if 0 < len(unlabelled) < len(raw):
        raise UserError(
            f"{where}: has labels, but none for {' and '.join(unlabelled)}; label every split (-1 means unlabelled) or none"
        )
    missing = tuple(split_name for split_name in splits.SPLITS if split_name not in raw)
    arrays |= splits.split_off(arrays["train"], missing, where)
    arrays = {split_name: arrays[split_name] for split_name in splits.SPLITS}
    sizes = "_".join(str(len(split["x"])) for split in arrays.values())
    carved = f"_carved_{'_'.join(missing)}" if missing else ""  # part of recorded protocols
    conditions = described_conditions(where, arrays, condition_names)
    classes = 0 if conditions else max(splits.count_classes(where, arrays), len(label_names) if not unlabelled else 0)
    spec = Spec(name, arrays["train"]["x"].shape[1:], recognised.kind, levels=recognised.levels, num_classes=classes)
    if first_label and not label_names:
        label_names = tuple(str(first_label + label) for label in range(classes))
    spec = spec._replace(
        missing=recognised.missing,
        volume=layouts.is_volume(reading.layout),
        value_range=tuple(recognised.value_range),
        label_names=label_names if not unlabelled and not conditions else (),
        factor_names=names,
        conditions=conditions,
        data_hash=data_hash or get("data_hash", lambda: splits.data_hash(arrays)),
    )
    return Dataset(arrays, with_protocol(spec, f"{protocol}_{sizes}{carved}"))


def _add_labels_and_factors(
    where: str, raw: Mapping[str, RawSplit], arrays: dict[str, dict[str, np.ndarray]], first_label: int
) -> tuple[str, ...]:
    """Add "y" and "factors" to the arrays of each split that has them, and return the names of classes that are texts."""
    given = {name: split.y for name, split in raw.items() if split.y is not None}
    conditional = any(map(are_conditions, given.values()))
    if conditional and first_label:
        raise UserError(f"--first_label={first_label}: y of {where} holds conditions, not classes; leave it out")
    numbered, texts = splits.numbered_classes(where, given)
    for name, split in raw.items():
        rows = len(split.x)
        if split.y is not None and conditional:
            arrays[name]["y"] = checked_conditions(f"{where}: {split.y_name}", split.y, rows)
        elif split.y is not None:
            first = 0 if texts else first_label
            arrays[name]["y"] = splits.class_labels(f"{where}: {split.y_name}", numbered[name], rows, first)
        if split.factors is not None:
            arrays[name]["factors"] = known_factors.checked_factors(
                f"{where}: {split.factors_name}", split.factors, rows
            )
    return texts


def assemble_decoded(where: str, name: str, decoded: Decoded, nouns: tuple[str, str], *, protocol: str) -> Dataset:
    """Assemble decoded splits; errors call their images and labels by the two ``nouns``.

    Example:
      >>> decoded = Decoded({"train": {"x": np.eye(10, 4, dtype=np.uint8)}})
      >>> assemble_decoded("a", "a", decoded, ("images", "labels"), protocol="a").spec.protocol
      'a_8_1_1_carved_validation_test binary'
    """
    raw = {
        split: RawSplit(f"{split} {nouns[0]}", arrays["x"], f"{split} {nouns[1]}", arrays.get("y"))
        for split, arrays in decoded.splits.items()
    }
    return assemble(
        where, name, raw, protocol=protocol, label_names=decoded.label_names, kept_values=decoded.kept_values
    )
