"""From the raw arrays of a file or a data set to a Dataset: values, labels, missing splits, hash and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage import arrays, values
from vaex.data.storage.cache import Memory
from vaex.data.storage.decoding import Decoded
from vaex.errors import UserError


class Part(NamedTuple):
    """One split as it was found: examples, labels if any, and what errors call them.

    Example:
      >>> Part("x_train", np.zeros([2, 4])).y is None
      True
    """

    x_name: str
    x: np.ndarray
    y_name: str = ""
    y: np.ndarray | None = None


def assemble(
    where: str,
    name: str,
    parts: Mapping[str, Part],
    *,
    protocol: str,
    label_names: tuple[str, ...] = (),
    memory: Memory | None = None,
    known: values.Values | None = None,
    data_hash: str = "",
) -> Dataset:
    """Recognise values, check labels, carve missing splits out of the training examples, and describe the result.

    Memory-mapped examples stay where they are: their splits are ``Rows``.

    Args:
      where: the file or data set, named in errors.
      name: for ``Spec.name``.
      parts: "train" and perhaps "validation" and "test".
      protocol: first words of the protocol; the splits' sizes, whether they were carved, and the values' kind follow.
      label_names: of the classes, where known.
      memory: where what takes a pass over all the data is kept, once it is known.
      known: what the values are, where that was found out before; else as ``values.recognise`` says.
      data_hash: likewise; else ``arrays.data_hash`` of the splits.
    Raises: UserError for anything that can't be used, with the remedy.
    Example:
      >>> x = np.arange(40).reshape(10, 4) / 40
      >>> assemble("a.npz", "a", {"train": Part("x", x)}, protocol="a").spec.protocol
      'a_8_1_1_carved_validation_test continuous'
    """
    recall = memory.recall if memory else lambda name, compute: compute()
    raw = {part.x_name: part.x for part in parts.values()}
    found = known or values.Values(*recall("values", lambda: values.recognise(where, raw)))
    splits = {split: {"x": values.stored(found, part.x)} for split, part in parts.items()}
    labelled = {split: part.y for split, part in parts.items() if part.y is not None}
    for split, y in labelled.items():
        splits[split]["y"] = arrays.labels(f"{where}: {parts[split].y_name}", y, len(parts[split].x))
    unlabelled = [parts[split].x_name for split in parts if split not in labelled]
    if labelled and unlabelled:
        raise UserError(
            f"{where}: has labels, but none for {' and '.join(unlabelled)}; label every split (-1 means unlabelled) or none"
        )
    missing = tuple(split for split in arrays.SPLITS if split not in parts)
    splits |= arrays.carve(splits["train"], missing, where)
    splits = {split: splits[split] for split in arrays.SPLITS}
    sizes = "_".join(str(len(splits[split]["x"])) for split in arrays.SPLITS)
    carved = f"_carved_{'_'.join(missing)}" if missing else ""
    classes = max(arrays.count_classes(where, splits), len(label_names) if labelled else 0)
    spec = Spec(name, splits["train"]["x"].shape[1:], found.kind, levels=found.levels, num_classes=classes)
    hashed = data_hash or recall("data_hash", lambda: arrays.data_hash(splits))
    spec = spec._replace(label_names=label_names if labelled else (), data_hash=hashed)
    return Dataset(splits, with_protocol(spec, f"{protocol}_{sizes}{carved}"))


def assemble_decoded(where: str, name: str, decoded: Decoded, nouns: tuple[str, str], *, protocol: str) -> Dataset:
    """``assemble`` of decoded splits, whose images and labels errors call by the two ``nouns``.

    Example:
      >>> decoded = Decoded({"train": {"x": np.eye(10, 4, dtype=np.uint8)}})
      >>> assemble_decoded("a", "a", decoded, ("images", "labels"), protocol="a").spec.protocol
      'a_8_1_1_carved_validation_test binary'
    """
    parts = {
        split: Part(f"{split} {nouns[0]}", found["x"], f"{split} {nouns[1]}", found.get("y"))
        for split, found in decoded.splits.items()
    }
    return assemble(where, name, parts, protocol=protocol, label_names=decoded.label_names, memory=decoded.memory)
