"""What a run is, on disk: its identity, the name of its directory, and the way back to settings."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from vaex import models
from vaex.config import Member, Settings
from vaex.flags import DataFlags, EvaluationFlags, RunFlags


def identity(chosen: Settings) -> dict[str, Any]:
    """What may not change when a run continues: everything that its numbers depend on, but for how long it runs."""
    dataset = chosen.data.dataset or ""
    name = pathlib.Path(dataset).stem if dataset.endswith(".npz") else dataset
    config = {field.name: getattr(chosen.config, field.name) for field in dataclasses.fields(chosen.config)}
    return {
        "model": chosen.model,
        "dataset": name,
        "data_seed": chosen.data.data_seed,
        "binarize": chosen.data.binarize,
        "dequantize": chosen.data.dequantize,
        "batch_size": chosen.run.batch_size,
        "config": {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()},
        "members": [{"seed": member.seed, "hparams": member.hparams} for member in chosen.members],
    }


def digest(value: Any) -> str:
    """Eight hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def run_directory(chosen: Settings) -> pathlib.Path:
    """``--out``, or runs/MODEL-DATASET-HASH."""
    if chosen.run.out:
        return pathlib.Path(chosen.run.out)
    facts = identity(chosen)
    name = f"{facts['model']}-{facts['dataset'].replace(':', '_').replace('/', '_')}-{digest(facts)}"
    return pathlib.Path("runs") / name


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The fields in which two identities differ, each as ``name: old -> new``.

    Example:
      >>> differences({"a": 1, "config": {"b": 2}}, {"a": 1, "config": {"b": 3}})
      ['b: 2 -> 3']
    """
    found: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after)
        elif key == "members":
            old_grid, new_grid = grid(before), grid(after)
            names = [*old_grid, *(name for name in new_grid if name not in old_grid)]
            pairs = ((name, old_grid.get(name), new_grid.get(name)) for name in names)
            found += [f"{name}: {was} -> {now}" for name, was, now in pairs if was != now]
        else:
            found.append(f"{key}: {before} -> {after}")
    return found


def grid(members: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A population in few words: "seeds", and each hyperparameter with its values."""
    seeds = dict.fromkeys(str(member["seed"]) for member in members)
    names = members[0]["hparams"]
    values = {name: dict.fromkeys(member["hparams"].get(name, "") for member in members) for name in names}
    return {"seeds": ",".join(seeds), **{name: ",".join(texts) for name, texts in values.items()}}


def restore(facts: Mapping[str, Any], *, dataset: str | None = None) -> Settings:
    """Settings from the ``identity`` in a run's config.json, for loading it.

    Args:
      facts: the content of config.json.
      dataset: unused by loading but kept for reports.
    """
    module = models.module(facts["model"])
    kinds = typing.get_type_hints(module.Config)
    values = {k: tuple(v) if typing.get_origin(kinds[k]) is tuple else v for k, v in facts["config"].items()}
    members = tuple(Member(member["seed"], dict(member["hparams"])) for member in facts["members"])
    varied = tuple(name for name in members[0].hparams if len({m.hparams[name] for m in members}) > 1)
    run = RunFlags(model=facts["model"], batch_size=facts["batch_size"])
    flags = DataFlags(
        dataset or facts["dataset"], facts["data_seed"], binarize=facts["binarize"], dequantize=facts["dequantize"]
    )
    return Settings(facts["model"], module, run, flags, EvaluationFlags(), module.Config(**values), members, varied, {})
