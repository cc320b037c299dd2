"""Hyperparameters that every model has."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax

from vaex.configuration import hparam, hyperparameters
from vaex.core import PyTree
from vaex.schedules import Scalar, alike_functions, as_schedule, is_schedule


@hyperparameters
class TrainingHParams:
    """Hyperparameters of the training step; a model's own ``HParams`` inherit them.

    Clipping and averaging are on where their hyperparameter is not None.
    """

    learning_rate: Scalar = hparam(0.001, low=0.0, doc="Step size of the optimizer.")
    weight_decay: Scalar = hparam(
        0.0,
        low=0.0,
        doc="Decoupled decay of weight matrices and kernels (AdamW), times the learning rate; biases are left alone.",
    )
    clip_norm: Scalar | None = hparam(
        None, low=1e-12, off=math.inf, doc="Largest global norm of each parameter group's gradient; inf is off."
    )
    average_decay: Scalar | None = hparam(
        None,
        low=0.0,
        high=1.0,
        off=0.0,
        doc="Decay of the running average of the parameters that evaluation then uses; 0 is off.",
    )


def as_schedules(hparams: PyTree) -> PyTree:
    """Hyperparameters with every number, text or function turned into a schedule.

    None, a hyperparameter that is switched off, stays None.
    """
    return jax.tree.map(as_schedule, hparams, is_leaf=lambda leaf: is_schedule(leaf) or isinstance(leaf, str))


def alike_schedules(members: Sequence[PyTree]) -> list[PyTree]:
    """Hyperparameters of the members of a population as trees of schedules that have one structure, and so stack."""
    trees = [as_schedules(hparams) for hparams in members]
    leaves, structures = zip(*(jax.tree.flatten(tree, is_leaf=is_schedule) for tree in trees), strict=True)
    alike = zip(*(alike_functions(schedules) for schedules in zip(*leaves, strict=True)), strict=True)
    return [structure.unflatten(schedules) for structure, schedules in zip(structures, alike, strict=True)]
