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
from vaex.configuration.flags import HIDDEN, DataFlags, EvaluationFlags, RunFlags, field_types, hparam_defaults
from vaex.configuration.settings import Member, Settings
from vaex.errors import UserError
from vaex.files import read_json

OPTIONAL = (  # data flags that count where they are set
    "flip", "crop", "image_size", "sequence_length", "labels", "labelled_per_batch",
)  # fmt: skip


def identity(chosen: Settings) -> dict[str, Any]:
    """What may not change when a run continues: everything that its numbers depend on, but for how long it runs."""
    dataset = chosen.data.dataset or ""
    own = dataset.lower().endswith((".npz", ".npy")) or "/" in dataset
    name = pathlib.Path(dataset).stem if own and not dataset.startswith("tfds:") else dataset
    config = {field.name: getattr(chosen.config, field.name) for field in dataclasses.fields(chosen.config)}
    optional = {key: getattr(chosen.data, key) for key in OPTIONAL}
    return {
        "model": chosen.model,
        "dataset": name,
        "data_seed": chosen.data.data_seed,
        "binarize": chosen.data.binarize,
        "dequantize": chosen.data.dequantize,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in optional.items() if value},
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
        return pathlib.Path(chosen.run.out).expanduser()
    facts = identity(chosen)
    name = f"{facts['model']}-{facts['dataset'].replace(':', '_').replace('/', '_')}-{digest(facts)}"
    return pathlib.Path("runs") / name


def read(path: pathlib.Path) -> dict[str, Any]:
    """The content of a run's config.json.

    Raises: UserError where it cannot be read, or is not the config.json of a run.
    """
    try:
        facts = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); --overwrite starts the run again") from None
    if not is_run(facts):
        raise UserError(f"{path}: is not the config.json of a vaex run; choose another directory")
    return facts


def is_run(facts: Any) -> bool:
    """Whether ``facts``, the content of some config.json, describe a run."""
    needed = {"model", "dataset", "data_seed", "binarize", "dequantize", "batch_size", "config", "members"}
    try:
        identified = isinstance(facts["data"]["data_hash"], str) and needed <= set(facts["identity"])
        return identified and len(grid(facts["identity"]["members"])) > 0
    except (KeyError, TypeError, IndexError, AttributeError):
        return False


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two identities differ, each as ``name: old -> new``; not those that follow from others.

    Example:
      >>> differences({"a": 1, "config": {"b": 2}}, {"a": 1, "config": {"b": 3}})
      ['b: 2 -> 3']
    """
    found: list[str] = []
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after or key in HIDDEN:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after)
        elif key == "members" and isinstance(before, Sequence) and isinstance(after, Sequence):
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


def restore(facts: Mapping[str, Any]) -> Settings:
    """Settings from the ``identity`` in a run's config.json, for loading it.

    Raises: UserError for a run whose model has fields that this version of it lacks.
    """
    module = models.module(facts["model"])
    kinds = {**field_types(module.Config), **dict.fromkeys(HIDDEN, bool)}
    known = {*kinds, *hparam_defaults(module)}
    given = {*facts["config"], *(name for member in facts["members"] for name in member["hparams"])}
    if not given <= known:
        raise UserError(
            f"{facts['model']}: this version lacks {', '.join(sorted(given - known))}, which the run was made with; load it "
            "with the version that config.json names"
        )
    values = {k: tuple(v) if typing.get_origin(kinds[k]) is tuple else v for k, v in facts["config"].items()}
    members = tuple(Member(member["seed"], dict(member["hparams"])) for member in facts["members"])
    varied = tuple(name for name in members[0].hparams if len({m.hparams[name] for m in members}) > 1)
    run = RunFlags(model=facts["model"], batch_size=facts["batch_size"])
    names = ("data_seed", "binarize", "dequantize", *OPTIONAL)
    stored: dict[str, Any] = {name: facts[name] for name in names if name in facts}
    if "image_size" in stored:
        stored["image_size"] = tuple(stored["image_size"])
    flags = DataFlags(facts["dataset"], **stored)
    return Settings(facts["model"], module, run, flags, EvaluationFlags(), module.Config(**values), members, varied, {})
