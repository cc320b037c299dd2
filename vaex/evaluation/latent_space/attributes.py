"""Attribute vectors: directions in the space of codes that add an attribute, or remove one, and how often they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.latent_space.classifiers import Classify
from vaex.evaluation.likelihood import Estimate, estimate
from vaex.evaluation.traversals import DecodeCodes, decode_points


def attribute_vector(codes: ArrayLike, present: ArrayLike) -> np.ndarray:
    """Mean code of the examples that have an attribute minus that of the others: float64 [d].

    Args:
      codes: [n, d], such as posterior means.
      present: bool [n].
    Raises: ValueError for shapes that disagree, or where all or none have it.
    Example:
      >>> attribute_vector([[0.0, 1.0], [2.0, 1.0], [4.0, 0.0]], [False, True, True])
      array([ 3. , -0.5])

    References: Larsen et al. 2016, section 4.2; White 2016, section 3.
    """
    values, has = np.asarray(codes, np.float64), np.asarray(present)
    if values.ndim != 2 or has.shape != values.shape[:1] or has.dtype != bool or has.all() or not has.any():
        raise ValueError(
            f"attribute_vector: codes has shape {values.shape}, present {has.dtype} of shape {has.shape}, expected [n, d] and bool "
            "[n] with some examples that have the attribute and some that do not"
        )
    return values[has].mean(axis=0) - values[~has].mean(axis=0)


class Arithmetic(NamedTuple):
    """What a classifier sees of examples whose code was moved along an attribute's vector.

    Attributes:
      success: share that it then holds to have the attribute (after removal: not to have it).
      before: the same share of the reconstructions that were not moved.
      changed: other attribute -> share of examples for which its predicted value is another one than before.
      values: the predicted value of the attribute itself -> share of the moved examples.
      images: decoded codes, moved [n, ...].
    """

    success: Estimate
    before: Estimate
    changed: Mapping[str, Estimate]
    values: Mapping[int, float]
    images: np.ndarray


def attribute_arithmetic(
    decode: DecodeCodes,
    codes: ArrayLike,
    vector: ArrayLike,
    classify: Classify,
    attribute: str,
    value: int,
    *,
    strength: float = 1.0,
) -> Arithmetic:
    """Add an attribute to codes (``strength`` > 0), or remove it (< 0), and count how often a classifier sees it.

    Args:
      decode: codes [n, d] -> examples [n, ...].
      codes: [n, d] of examples without the attribute to add it to, or with it to remove it from.
      vector: [d], from ``attribute_vector`` of other examples.
      classify: examples -> name -> integers [n], of which ``attribute`` is one; trained on other examples.
      attribute, value: an example has the attribute where it is predicted to have this value.
      strength: by which the vector is multiplied.
    Raises: ValueError for shapes that disagree, or a classifier that does not know the attribute.
    Example:
      >>> on = lambda x: {"on": (x[:, 0] > 0.5).astype(int)}
      >>> attribute_arithmetic(lambda z: z, [[0.0], [-0.9]], [1.0], on, "on", 1).success.mean
      0.5
    """
    z, direction = np.asarray(codes, np.float64), np.asarray(vector, np.float64)
    if z.ndim != 2 or direction.shape != z.shape[1:] or len(z) < 2:
        raise ValueError(
            f"attribute_arithmetic: codes and vector have shapes {z.shape} and {direction.shape}, expected [n, d] and [d], n >= 2"
        )
    moved = decode_points("attribute_arithmetic", decode, z + strength * direction)
    shifted, unmoved = classify(moved), classify(decode_points("attribute_arithmetic", decode, z))
    if attribute not in shifted:
        raise ValueError(
            f"attribute_arithmetic: the classifier does not know {attribute!r}; it knows {', '.join(shifted)}"
        )
    added = strength > 0
    success, before = (estimate((of[attribute] == value) == added) for of in (shifted, unmoved))
    changed = {name: estimate(shifted[name] != unmoved[name]) for name in shifted if name != attribute}
    values, counts = np.unique(shifted[attribute], return_counts=True)
    shares = {int(label): float(count) / len(z) for label, count in zip(values, counts, strict=True)}
    return Arithmetic(success, before, changed, shares, moved)
