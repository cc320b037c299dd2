"""From the arguments of a call in Python to checked settings."""

from __future__ import annotations

import dataclasses
import os
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vaex import models
from vaex.configuration import choices
from vaex.configuration.declare import Field, fields, plain_kind
from vaex.configuration.grammar import read_function, read_hyperparameter, read_names, write_hyperparameter
from vaex.configuration.run_options import GROUPS, EvaluationOptions
from vaex.configuration.settings import Settings, check_module, settings, stage_fields
from vaex.errors import UserError, nearest
from vaex.schedules import is_schedule


def settings_of(model: str | types.ModuleType, values: Mapping[str, object]) -> Settings:
    """Return the settings of a model from options and hyperparameters by name.

    Args:
      model: name in the registry, dotted path, or module.
      values: option -> its value; hyperparameter -> a number or a schedule, or several of them, which make a population.
    Raises: UserError for a name that does not exist, a value out of range, or options that contradict each other.
    """
    name, module = (model.__name__, model) if isinstance(model, types.ModuleType) else (model, models.module(model))
    check_module(module)
    groups = {part: fields(group) for part, group in GROUPS} | {
        "config": fields(module.Config),
        "stages": stage_fields(module),
    }
    traced = fields(module.HParams)
    known = {option: field for group in groups.values() for option, field in group.items()}
    for key in values:
        if key == "model" or (key not in known and key not in traced):
            raise UserError(f"{name}: {key!r} is no option; {nearest(key, [*known, *traced])}")
    given = {
        part: {option: _option(field, values[option]) for option, field in group.items() if option in values}
        for part, group in groups.items()
    }
    return settings(
        name,
        module,
        **{part: group(**given[part]) for part, group in GROUPS},
        config=module.Config(**given["config"]),
        grid={key: _grid(field, values[key]) for key, field in traced.items() if key in values},
        stage_steps={key.removesuffix("_steps"): steps for key, steps in given["stages"].items()},
    )


def choices_of(model: str | types.ModuleType, values: Mapping[str, object]) -> list[choices.Choice]:
    """Return the combinations of options that have several values; one without a name where none has.

    Raises: UserError for a value that stands twice.
    """
    options = choices.several_options(model if isinstance(model, types.ModuleType) else models.module(model))
    several = {name: choices.values_of(options[name], value) for name, value in values.items() if name in options}
    return choices.combinations(options, several)


def _option(field: Field, value: object) -> Any:
    """Return an option's value as its type has it: sequences as tuples, a single seed as one, NumPy's numbers as Python's."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    kind = plain_kind(field.kind)
    if typing.get_origin(kind) is not tuple:
        return float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(value, str) and typing.get_args(kind)[0] is str:
        return read_names(value)
    if isinstance(value, int):
        return (value,)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(entry.item() if isinstance(entry, np.generic) else entry for entry in value)
    return value


def _grid(field: Field, value: Any) -> tuple[Any, ...]:
    """Return the values of a hyperparameter, one or several."""
    if isinstance(value, str):
        return read_hyperparameter(field, value)
    several = isinstance(value, list | tuple | range) and not is_schedule(value)
    entries = tuple(value) if several or getattr(value, "ndim", 0) == 1 else (value,)
    if not entries:
        raise UserError(f"{field.name}: got no value; give one, or leave it out")
    given = tuple(_hyperparameter(field, entry) for entry in entries)
    keys = [write_hyperparameter(field, entry) for entry in given]
    if len(set(keys)) < len(keys):
        raise UserError(f"{field.name}: a value stands twice; give each once, and seeds= for repetitions")
    return given


def _hyperparameter(field: Field, value: Any) -> Any:
    if value is None or is_schedule(value):
        return value
    if callable(value):
        return read_function(field, value)
    if isinstance(value, str):
        entries = read_hyperparameter(field, value)
        if len(entries) == 1:
            return entries[0]
    elif np.ndim(value) == 0:
        try:
            number = float(value)
            return None if number == field.declaration.off else number
        except (TypeError, ValueError):
            pass
    raise UserError(
        f"{field.name}={value!r}: expected a number, a schedule of vaex.schedules, a function of the step, or a sequence of "
        "these, which makes a population"
    )


def replaced(options: EvaluationOptions, changes: Mapping[str, object]) -> EvaluationOptions:
    """Return options of the evaluation with some of them changed.

    Raises: UserError for a name that is no option.
    """
    known = [field.name for field in dataclasses.fields(options)]
    if unknown := [name for name in changes if name not in known]:
        raise UserError(f"evaluate: no option is called {unknown[0]!r}; there are {', '.join(known)}")
    return dataclasses.replace(options, **changes)
