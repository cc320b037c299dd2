"""Hyperparameters that every model has."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from vaex.configuration import fields, hparam, hyperparameters
from vaex.core import PyTree
from vaex.errors import UserError
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
    """Hyperparameters of the members of a population as trees of schedules that have one structure, and so stack.

    Raises: UserError for a hyperparameter that is None in some members and has no number that means the same.
    """
    trees = [as_schedules(hparams) for hparams in common_structure(members)]
    leaves, structures = zip(*(jax.tree.flatten(tree, is_leaf=is_schedule) for tree in trees), strict=True)
    alike = zip(*(alike_functions(schedules) for schedules in zip(*leaves, strict=True)), strict=True)
    return [structure.unflatten(schedules) for structure, schedules in zip(structures, alike, strict=True)]


def common_structure(hparams: Sequence[Any]) -> list[Any]:
    """Members' hyperparameters as trees of one structure, so that they stack.

    What all members leave at None stays None: it is switched off, and costs nothing. Where only some do, these get the number
    that means the same.

    Raises: UserError for a hyperparameter that is None in some members and has no such number.
    """
    replaced: list[dict[str, Any]] = [{} for _ in hparams]
    for name, field in fields(type(hparams[0])).items():
        missing = [getattr(member, name) is None for member in hparams]
        if any(missing) and not all(missing):
            if field.declaration.off is None:
                raise UserError(
                    f"{name}: is None in some members of the population and a number in others; give all one"
                )
            for changes, is_missing in zip(replaced, missing, strict=True):
                changes |= {name: field.declaration.off} if is_missing else {}
    return [_replace(member, changes) for member, changes in zip(hparams, replaced, strict=True)]


def _replace(hparams: Any, changes: Mapping[str, Any]) -> Any:
    """``dataclasses.replace`` without the checks of ranges, beyond which the number that means off may lie."""
    if not changes:
        return hparams
    copy = object.__new__(type(hparams))
    for field in dataclasses.fields(hparams):
        object.__setattr__(copy, field.name, changes.get(field.name, getattr(hparams, field.name)))
    return copy
