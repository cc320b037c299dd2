"""What the program knows about a data set: shape, kind of values, names; and the pure step from stored to model values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Spec(NamedTuple):
    """A data set's facts, static (hashable, no arrays).

    ``shape``: one example, [h, w, c] or [d]. ``kind``: "binary" (0 or 1), "grey" (one channel, [0, 1]), "color" (several
    channels, [0, 1]) or "real" (vectors of any finite value). ``levels``: number of equally spaced values (2, 17, 256),
    or None where values are continuous. ``protocol``: files, split and binarisation by name, printed with every likelihood.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    levels: int | None = None
    num_classes: int = 0
    label_names: tuple[str, ...] = ()
    factor_names: tuple[str, ...] = ()
    protocol: str = ""
    data_hash: str = ""
    binarize: str = "none"
    dequantize: str = "none"


class Dataset(NamedTuple):
    """Arrays of the three splits: "train", "validation", "test" -> {"x": [n, ...], "y": [n] int32 where labelled}.

    ``x`` is uint8 holding level indices 0..levels-1 where ``Spec.levels`` is set, else float32.
    """

    splits: dict[str, dict[str, np.ndarray]]
    spec: Spec


__all__ = ["Any", "Dataset", "Spec"]
