"""Hyperparameters that change where a run continues: read from ``--change``, recorded in config.json, and put into train states."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vaex.configuration.declare import fields
from vaex.configuration.grammar import (
    hyperparameter_from_json,
    hyperparameter_to_json,
    read_hyperparameter,
    write_hyperparameter,
)
from vaex.configuration.settings import Member, Settings
from vaex.core import PyTree
from vaex.errors import UserError, nearest
from vaex.runs.setup import Experiment, stack_hparams
from vaex.runs.store import Store
from vaex.training import multihost

CHANGES = "changes"  # in config.json


def text_of(settings: Settings, change: Mapping[str, Any] | str | None) -> str | None:
    """Return the text of hyperparameters by name, as ``--change`` takes it."""
    if change is None or isinstance(change, str):
        return change
    known = fields(settings.module.HParams)
    return ",".join(
        f"{name}={write_hyperparameter(known[name], value) if name in known else value}"
        for name, value in change.items()
    )


def read_change(settings: Settings) -> dict[str, Any]:
    """Return hyperparameter -> its new value from the settings' ``--change=NAME=VALUE,NAME=VALUE``; {} for none.

    Raises: UserError for an option, an unknown name, a value out of range, or several values.
    """
    text, known, changes = settings.run.change, fields(settings.module.HParams), {}
    for part in re.split(r",(?=\s*\w+=)", text) if text else ():
        name, equals, value = part.strip().partition("=")
        name = name.removeprefix("--")
        if name in fields(type(settings.config)):
            raise UserError(
                f"--change={part}: {name} is an option, which shapes the compiled program, and cannot change in a run; begin a new "
                f"run with --init_from=RUN --{name}={value or 'VALUE'}"
            )
        if not equals or name not in known:
            raise UserError(f"--change={part}: expected HYPERPARAMETER=VALUE; {nearest(name, known)}")
        values = read_hyperparameter(known[name], value)
        if len(values) != 1:
            raise UserError(f"--change={part}: expected one value, which all members get")
        changes[name] = values[0]
    return changes


def recorded_changes(store: Store) -> list[dict[str, Any]]:
    """Return the changes that config.json records, each with its stage, its step and the new values."""
    return list(store.read_config().get(CHANGES, ()))


def with_changes(settings: Settings, records: Sequence[Mapping[str, Any]]) -> Settings:
    """Return the settings with the members' hyperparameters as they are after recorded changes."""
    values = {name: hyperparameter_from_json(value) for record in records for name, value in record["hparams"].items()}
    members = [Member(member.seed, dataclasses.replace(member.hparams, **values)) for member in settings.members]
    return settings._replace(members=tuple(members)) if values else settings


def check(experiment: Experiment) -> None:
    """Raise UserError for changes that can't be made, before anything is compiled."""
    requested = read_change(experiment.settings)
    if not requested:
        return
    if not experiment.store.read_config() or experiment.settings.run.overwrite:
        given = " ".join(f"--{part}" for part in (experiment.settings.run.change or "").split(","))
        raise UserError(f"--change={experiment.settings.run.change}: {experiment.store} has not begun; give {given}")
    values = {name: hyperparameter_to_json(value) for name, value in requested.items()}
    after = stack_hparams(with_changes(experiment.settings, [{"hparams": values}]))
    for name in requested:
        if jax.tree.structure(getattr(after, name)) != jax.tree.structure(getattr(experiment.hparams, name)):
            raise UserError(
                f"--change={name}: from {_kind(experiment.hparams, name)} to {_kind(after, name)} takes another program; begin a "
                f"new run with --init_from={experiment.store}"
            )


def _kind(hparams: PyTree, name: str) -> str:
    value = getattr(hparams, name)
    return "off" if value is None else f"a {type(value).__name__.lower()}"


def begin(experiment: Experiment) -> Experiment:
    """Record the changes that the settings ask for, where they are new, and return the experiment with all hyperparameters as they
    are for stages to come.

    A change happens at the step from which the first unfinished stage goes on.

    Raises: UserError where every stage is finished.
    """
    store, requested = experiment.store, read_change(experiment.settings)
    records = recorded_changes(store)
    if not requested and not records:
        return experiment
    steps = [store.latest_step(experiment.place(index)) for index in range(len(experiment.recipe.stages))]
    unfinished = [index for index, step in enumerate(steps) if (step or 0) < experiment.stage_steps[index]]
    values = {name: hyperparameter_to_json(value) for name, value in requested.items()}
    new = {name: value for name, value in values.items() if not _holds(experiment.settings, records, name, value)}
    if new and not unfinished:
        raise UserError(
            f"--change={experiment.settings.run.change}: {store} is trained to its end; give more --steps, from where on it changes"
        )
    if unfinished:
        stage, step = experiment.recipe.stages[unfinished[0]].name, steps[unfinished[0]] or 0
        # where a damaged checkpoint is passed over, a change comes to where training goes on
        records = [
            {**record, "step": min(record["step"], step)} if record["stage"] == stage else record for record in records
        ]
        records += [{"stage": stage, "step": step, "hparams": new}] if new else []
        if multihost.is_first():
            store.write_config({**store.read_config(), CHANGES: records})
    changed = with_changes(experiment.settings, records)
    return experiment._replace(hparams=stack_hparams(changed), changes=tuple(records))


def _holds(settings: Settings, records: list[dict[str, Any]], name: str, value: object) -> bool:
    """Return True if a hyperparameter has this value in all members already."""
    members = with_changes(settings, records).members
    return all(hyperparameter_to_json(getattr(member.hparams, name)) == value for member in members)


def put_into(hparams: PyTree, experiment: Experiment, stage: str, step: int) -> PyTree:
    """Return the hyperparameters of a restored train state after the changes that happen at its step.

    Args:
      hparams: stacked, as the checkpoint has them.
      experiment: whose changes they are.
      stage: that goes on.
      step: from which it does.
    """
    names = {
        name
        for record in experiment.changes
        if record["stage"] == stage and record["step"] == step
        for name in record["hparams"]
    }
    replaced = {
        name: jax.tree.map(_placed_like, getattr(experiment.hparams, name), getattr(hparams, name)) for name in names
    }
    return dataclasses.replace(hparams, **replaced) if replaced else hparams


def _placed_like(value: object, like: jax.Array) -> jax.Array:
    values = np.asarray(value, like.dtype)
    return jax.make_array_from_callback(values.shape, like.sharding, lambda index: values[index])
