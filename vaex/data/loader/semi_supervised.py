"""Semi-supervised data: few labels are kept, and every batch has a fixed number of labelled examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vaex.data.order import Order, batch_indices, epoch_order
from vaex.errors import UserError

UNLABELLED = -1


def choose_labelled(y: np.ndarray, labels: int, num_classes: int, data_seed: int) -> np.ndarray:
    """Choose the examples that keep their labels: equally many of each class, drawn by ``data_seed``.

    Args:
      y: [n] labels, -1 where unlabelled.
      labels: number of labels to keep, a multiple of the number of classes.
      num_classes: labels are 0..num_classes-1.
      data_seed: see ``vaex.data.order``.
    Returns: int32 [labels], ascending.
    Raises: UserError where the classes cannot have equally many labels, or a class has too few examples.
    Example:
      >>> choose_labelled(np.array([0, 1, 0, 1, 1, 0]), 2, 2, data_seed=0).tolist()
      [0, 1]
    """
    if num_classes < 1:
        raise UserError(f"--labels={labels}: this data has no labels; leave the flag out")
    if labels < num_classes or labels % num_classes:
        below = max(labels // num_classes, 1) * num_classes
        raise UserError(f"--labels={labels}: expected a multiple of the {num_classes} classes, such as {below}")
    each = labels // num_classes
    order = epoch_order(data_seed, 0, len(y))
    chosen = []
    for label in range(num_classes):
        members = order[y[order] == label]
        if len(members) < each:
            raise UserError(
                f"--labels={labels}: class {label} has {len(members)} training examples, {each} are needed; give fewer labels"
            )
        chosen.append(members[:each])
    return np.sort(np.concatenate(chosen)).astype(np.int32)


def hide_labels(arrays: Mapping[str, np.ndarray], kept: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays with all labels replaced by -1, except those of the examples ``kept``.

    Example:
      >>> hide_labels({"x": np.zeros(3), "y": np.array([2, 1, 0])}, np.array([1]))["y"].tolist()
      [-1, 1, -1]
    """
    y = np.full_like(arrays["y"], UNLABELLED)
    y[kept] = arrays["y"][kept]
    return {**arrays, "y": y}


def labelled_order(kept: np.ndarray, n: int, batch_size: int, labelled_per_batch: int, data_seed: int) -> Order:
    """Return an order of examples with a fixed number of labelled ones in every batch.

    The labelled examples have epochs of their own, each example once in each; the other columns go through all n examples.

    Args:
      kept: numbers of the labelled examples, from ``choose_labelled``.
      n: number of examples.
      batch_size: examples per batch.
      labelled_per_batch: number of leading columns that come from ``kept``.
      data_seed: see ``vaex.data.order``.
    Raises: UserError where ``labelled_per_batch`` exceeds ``kept`` or leaves no room in the batch.
    Example:
      >>> rows = labelled_order(np.array([7, 9]), 10, 4, 1, data_seed=0)(0, 2)
      >>> rows.shape, sorted(rows[:, 0].tolist())
      ((2, 4), [7, 9])
    """
    if not 0 < labelled_per_batch < batch_size:
        raise UserError(
            f"--labelled_per_batch={labelled_per_batch}: expected 1 to {batch_size - 1}, less than the batch size of {batch_size}"
        )
    if labelled_per_batch > len(kept):
        raise UserError(
            f"--labelled_per_batch={labelled_per_batch}: there are only {len(kept)} labelled examples; give at most that many"
        )

    def indices(first_step: int, count: int) -> np.ndarray:
        labelled = kept[batch_indices(data_seed, len(kept), labelled_per_batch, first_step, count)]
        others = batch_indices(data_seed, n, batch_size - labelled_per_batch, first_step, count)
        return np.concatenate([labelled.astype(np.int32), others], axis=1)

    return indices
