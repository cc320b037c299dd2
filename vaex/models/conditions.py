"""What models read beside an example: the class of a label as a one-hot vector, or conditions that are no classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.core import Batch, Labels, SampleKey
from vaex.data.conditions import Condition
from vaex.data.spec import Spec
from vaex.errors import UserError


def require_condition(spec: Spec) -> Labels:
    """Return how a model reads the labels of this data, or conditions in their place.

    Raises: UserError for data that has neither.
    """
    if spec.conditions:
        return Labels(0, conditions=len(spec.conditions))
    return Labels(require_labels(spec))


def require_labels(spec: Spec) -> int:
    """Return the number of classes of labelled data.

    Raises: UserError for data without labels.
    """
    if spec.conditions:
        raise UserError(
            f"{spec.name} has conditions, not classes, and this model reads classes; use "
            "--model=conditional_vae, or class numbers y [n]"
        )
    if not spec.num_classes:
        raise UserError(
            f"{spec.name} has no labels, and this model reads them; choose a labelled --dataset, or a model without labels"
        )
    return spec.num_classes


def example_labels(spec: Spec, n: int) -> Batch:
    """Return zeros in place of the labels or conditions of n examples, as a part of a batch; {} for data without."""
    if spec.conditions:
        return {"y": np.zeros((n, len(spec.conditions)), np.float32)}
    return {"y": np.zeros(n, np.int32)} if spec.num_classes else {}


def condition_vectors(spec: Spec, y: jax.Array) -> jax.Array:
    """Return what networks read of y: classes one-hot, -1 as zeros, [...] -> [..., classes]; conditions [..., m] standardised."""
    if not spec.conditions:
        return jax.nn.one_hot(y, spec.num_classes)
    location, scale = (np.array([getattr(each, name) for each in spec.conditions]) for name in ("location", "scale"))
    return (y - jnp.asarray(location, y.dtype)) / jnp.asarray(scale, y.dtype)


def condition_batch(
    key: jax.Array, classes: int, n: int, condition: ArrayLike | None, conditions: tuple[Condition, ...] = ()
) -> Batch:
    """Return the labels of n samples, ``condition`` [n] or uniform draws, as a batch for ``decode``; {} for 0 classes.

    Of ``conditions`` that are no classes they are rows, ``condition`` [n, m] or those of training examples at random.
    """
    if not classes and not conditions:
        return {}
    if condition is not None:
        return {"y": jnp.asarray(condition)}
    draw_key = jax.random.fold_in(key, SampleKey.LABELS)
    if not conditions:
        return {"y": jax.random.randint(draw_key, (n,), 0, classes)}
    known = np.array([each.values for each in conditions], np.float32).T
    return {"y": jnp.asarray(known)[jax.random.randint(draw_key, (n,), 0, len(known))]}


def labels_shape(reads: Labels) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of the labels of one example, with the axis of the batch."""
    if reads.conditions:
        return jax.ShapeDtypeStruct((1, reads.conditions), jnp.float32)
    return jax.ShapeDtypeStruct((1,), jnp.int32)


def drawn_labels(reads: Labels, spec: Spec, key: jax.Array, n: int) -> jax.Array:
    """Draw classes [n] uniformly, or conditions [n, m] of training examples."""
    if reads.conditions:
        return condition_batch(key, 0, n, None, spec.conditions)["y"]
    return jax.random.randint(key, (n,), 0, reads.classes)
