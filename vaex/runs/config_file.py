"""config.json, which holds all that rebuilding a run takes: its one writer, its one reader, and the way back to settings.

``identity`` in it is what may not change when a run continues; from it the name of the run directory is made.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import types
import typing
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import vaex
from vaex import models
from vaex.configuration.declare import Field, fields
from vaex.configuration.grammar import (
    hyperparameter_from_json,
    hyperparameter_to_json,
    hyperparameters_to_json,
    option_to_json,
    options_to_json,
    read_function,
    write,
)
from vaex.configuration.importing import import_object, is_importable
from vaex.configuration.run_options import DataOptions, EvaluationOptions, RunOptions
from vaex.configuration.settings import Member, Origin, Settings, varied
from vaex.data import columns, conditions, registry
from vaex.data.spec import RECORDED, Spec
from vaex.errors import UserError
from vaex.files import digest, is_as_written, mismatch, read_json

DATA = ("data_seed", "binarize", "dequantize")
WHERE_SET = (  # data options that count where they are set
    "flip", "crop", "image_size", "sequence_length", "layout", "kind", "value_range", "first_label", "labels",
    "labelled_per_batch", "standardize", "columns", "label_column", "transparency", "skip_unreadable", "balance",
)  # fmt: skip
ADDED_OPTIONS = ("precision",)  # to models, after runs existed
ALWAYS = (  # fields of Spec that every run has recorded; what is added later has its default in runs from before
    "name", "shape", "kind", "levels", "num_classes", "label_names", "factor_names", "protocol", "data_hash", "binarize",
    "dequantize",
)  # fmt: skip
HPARAM = (None, float, {"function": str, "values": list}, {...: (float, [float])})
ORIGIN = {"run": (None, str), "step": int, "digest": str, "from_members": [int]}
CONTENT = {  # types of what a config.json holds
    "identity": {
        **dict.fromkeys(("model", "dataset", "binarize", "dequantize"), str),
        "data_seed": int,
        "batch_size": (None, int),
        "config": {},
        "members": [{"seed": int, "hparams": {...: HPARAM}}],
        "image_size?": [int],
        "init_from?": ORIGIN,
        **{key: [str] for key in ("init_only?", "freeze?")},
    },
    "data": RECORDED,
    "population_strategy?": {"solo", "vmap", "members"},
    "keep?": (None, str),
    "validate_every?": int,
    "patience?": int,
    "diverged?": [{"member": int, "stage": str, "step": int, "term": str}],
}


def identity(settings: Settings) -> dict[str, Any]:
    """What may not change when a run continues: everything that its numbers depend on, but for how long it runs."""
    beginning = _beginning(settings)
    dataset = settings.data.dataset or ""
    is_file = registry.is_array_file(dataset) or registry.is_table_file(dataset)
    name = pathlib.Path(dataset).stem if is_file or "/" in dataset.partition("tfds:")[0] else dataset
    where_set = {key: option_to_json(getattr(settings.data, key)) for key in WHERE_SET}
    return {
        "model": settings.model,
        "dataset": name,
        **{key: getattr(settings.data, key) for key in DATA},
        **{key: value for key, value in where_set.items() if value and value != "auto"},
        "batch_size": settings.run.batch_size,
        **beginning,
        "config": options_to_json(settings.config, ADDED_OPTIONS),
        "members": [
            {"seed": member.seed, "hparams": hyperparameters_to_json(member.hparams)} for member in settings.members
        ],
    }


def _beginning(settings: Settings) -> dict[str, Any]:
    """How the run begins and steps, where that differs from the default."""
    run, origin = settings.run, settings.origin
    entries = {
        "init_from": None if origin is None else origin._asdict() | {"from_members": list(origin.from_members)},
        "init_only": list(run.init_only),
        "freeze": list(run.freeze),
        "accumulate": run.accumulate if run.accumulate > 1 else None,
    }
    return {name: value for name, value in entries.items() if value}


def origin_of(identified: Mapping[str, Any]) -> Origin | None:
    """Return the run that an identity says it began from."""
    recorded = identified.get("init_from")
    return None if recorded is None else Origin(**{**recorded, "from_members": tuple(recorded["from_members"])})


def without_place(identified: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without the place of the run that it began from, which may move."""
    if not identified.get("init_from"):
        return dict(identified)
    return dict(identified) | {"init_from": {**identified["init_from"], "run": None}}


def run_directory(settings: Settings) -> pathlib.Path:
    """``--out``, or runs/MODEL-DATASET-HASH."""
    if settings.run.out:
        return pathlib.Path(settings.run.out).expanduser()
    identified = identity(settings)
    dataset = identified["dataset"].replace(":", "_").replace("/", "_")
    model = pathlib.Path(settings.model).stem if settings.model.endswith(".py") else settings.model
    return pathlib.Path("runs") / f"{model}-{dataset}-{digest(without_place(identified))}"


def config_content(settings: Settings, spec: Spec, strategy: str, path: str | None) -> dict[str, Any]:
    """Return the content of config.json.

    Args:
      settings: of the run, resolved.
      spec: of its data.
      strategy: how its population runs, which may not change either.
      path: name or path by which the data can be loaded again; None for arrays that were in memory.
    """
    return {
        "vaex": vaex.__version__,
        "identity": identity(settings),
        "data": {"path": path, **spec._asdict()},
        "population_strategy": strategy,
        **_kept(settings.run),
    }


def _kept(run: RunOptions) -> dict[str, Any]:
    """Return which state a run ends with, where that is not the last, as a loaded run goes on to choose it."""
    entries = {"keep": f"best:{run.best_metric}", "validate_every": run.validate_every, "patience": run.patience}
    return {name: value for name, value in entries.items() if value is not None and run.best_metric}


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """Return the content of a run's config.json.

    Raises: UserError where it cannot be read, or is not the config.json of a run.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); --overwrite starts the run again") from None
    if not is_run(content):
        raise UserError(f"{path}: is not the config.json of a vaex run; choose another directory")
    if not is_as_written(content):
        warnings.warn(f"{path}: holds something else than was written; it was edited, or is damaged", stacklevel=2)
    problem = mismatch(content, CONTENT) or _no_hyperparameter(content["identity"]["members"])
    if problem is not None:
        raise UserError(f"{path}: {problem}; put the file back as it was, or start again with --overwrite")
    return content


def _no_hyperparameter(members: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the first value that stands for no hyperparameter's, None where all do."""
    for index, member in enumerate(members):
        for name, value in member["hparams"].items():
            try:
                _text(value)
            except (KeyError, TypeError, ValueError):
                return f"identity.members.{index}.hparams.{name} is no number and no schedule"
    return None


def is_run(content: Any) -> bool:
    """Return True if the content of some config.json describes a run."""
    needed = {"model", "dataset", *DATA, "batch_size", "config", "members"}
    try:
        identified = isinstance(content["data"]["data_hash"], str) and needed <= set(content["identity"])
        return identified and isinstance(content["identity"]["members"][0], Mapping)
    except (KeyError, TypeError, IndexError):
        return False


def read_spec(content: Mapping[str, Any]) -> Spec:
    """The ``Spec`` in the content of a config.json; what earlier versions did not store has its default.

    Raises: KeyError for a field that is missing.
    """
    stored = ((name, content["data"][name]) for name in Spec._fields if name in content["data"] or name in ALWAYS)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in stored}
    values["columns"] = tuple(columns.from_json(column) for column in values.get("columns", ()))
    values["conditions"] = tuple(conditions.from_json(each) for each in values.get("conditions", ()))
    return Spec(**values)


def restore_settings(
    identified: Mapping[str, Any], objects: Mapping[str, Any] | None = None, *, trust: bool = False
) -> Settings:
    """Settings from the ``identity`` in a config.json, for loading the run.

    Args:
      identified: what may not change when the run continues.
      objects: option -> the object that a run was trained with, such as its encoder, where that has no name to import it by.
      trust: whether modules that the config.json names, and that are not imported yet, may be imported, which runs their code.
    Raises: UserError for a run whose model has fields that this version of it lacks, values that it does not take, or objects
      that are not at hand.
    """
    module, objects = _model(identified["model"], trust=trust), dict(objects or {})
    options, hparams = fields(module.Config), fields(module.HParams)
    given = {*identified["config"], *(name for member in identified["members"] for name in member["hparams"])}
    if unknown := given - {*options, *hparams}:
        raise UserError(
            f"{identified['model']}: this version lacks {', '.join(sorted(unknown))}, which the run was made with; load it with "
            f"the vaex that made it (config.json names its version; this one is {vaex.__version__})"
        )
    if useless := [name for name in objects if not _is_own(identified["config"].get(name))]:
        raise UserError(f"load: {useless[0]}= is given, but the run was trained without one of your own; leave it out")
    values = {
        name: tuple(value)
        if typing.get_origin(options[name].kind) is tuple and isinstance(value, list)
        else _object(name, value, objects, trust=trust)
        for name, value in identified["config"].items()
    }
    members = tuple(
        Member(
            member["seed"],
            module.HParams(
                **{
                    name: _hyperparameter(hparams[name], value, trust=trust)
                    for name, value in member["hparams"].items()
                }
            ),
        )
        for member in identified["members"]
    )
    stored: dict[str, Any] = {name: identified[name] for name in (*DATA, *WHERE_SET) if name in identified}
    if "image_size" in stored:
        stored["image_size"] = tuple(stored["image_size"])
    beginning: dict[str, Any] = {
        name: tuple(identified[name]) for name in ("init_only", "freeze") if name in identified
    }
    beginning |= {"accumulate": identified["accumulate"]} if "accumulate" in identified else {}
    run = RunOptions(model=identified["model"], batch_size=identified["batch_size"], **beginning)
    data = DataOptions(identified["dataset"], **stored)
    config = module.Config(**values)
    names = varied(members)
    return Settings(
        identified["model"],
        module,
        run,
        data,
        EvaluationOptions(),
        config,
        members,
        names,
        {},
        {},
        origin_of(identified),
    )


def _is_own(value: object) -> bool:
    """Return True if an option's recorded value stands for an object of a user's own."""
    return isinstance(value, str) and ":" in value


def _object(name: str, value: Any, objects: Mapping[str, Any], *, trust: bool) -> Any:
    """Return an option's value: the user's own object where one is recorded."""
    if not _is_own(value):
        return value
    if name in objects:
        return objects[name]
    if not is_importable(value):
        raise UserError(f"load: the run's {name} is {value}, which cannot be imported; pass it, as {name}=...")
    if not trust and value.rpartition(":")[0] not in sys.modules:
        raise _untrusted(name, value, f"pass {name}=...")
    return import_object(name, value)


def _untrusted(name: str, value: str, *remedies: str) -> UserError:
    """Return the error for an object whose module has not been imported; that of a file has no name to import it by."""
    importing = () if value.rpartition(":")[0].endswith(".py") else ("import that module yourself",)
    ways = ", or ".join(["say trust=True (--trust on the command line)", *importing, *remedies])
    return UserError(f"load: the run's {name} is {value}, and importing it runs code; {ways}")


def _hyperparameter(field: Field, value: Any, *, trust: bool) -> Any:
    """Return a hyperparameter's value from its record, which of a function is its name."""
    if not _is_function(value):
        if value is None and field.default is not None and field.declaration.off is None:
            raise UserError(
                f"load: {field.name} is null, expected a number or a schedule; put config.json back as it was"
            )
        return hyperparameter_from_json(value)
    name = value["function"]
    if not trust and name.rpartition(":")[0] not in sys.modules:
        raise _untrusted(field.name, name)
    return read_function(field, import_object(field.name, name), name)


def _is_function(value: object) -> bool:
    return isinstance(value, Mapping) and "function" in value


def check_recordable(settings: Settings) -> None:
    """Raise UserError for a hyperparameter that no config.json could say: a function without a name to import it by."""
    for member in settings.members:
        for name, recorded in hyperparameters_to_json(member.hparams).items():
            if _is_function(recorded) and not is_importable(recorded["function"]):
                raise UserError(
                    f"{name}: {recorded['function']} has no name by which a run directory could record it; put it into a module, "
                    f"as rate = ..., and give {name}='my_rates.py:rate', or write it as text, as "
                    "'ramp:0:1e-3:500+cosine:1e-3:0:5000'"
                )


def _model(name: str, *, trust: bool) -> types.ModuleType:
    if name not in models.known_models() and not trust and name not in sys.modules:
        raise UserError(
            f"load: the run's model is {name}, a module that is not vaex's, and importing it runs code; import it yourself, or say "
            "trust=True"
        )
    return models.module(name)


def with_defaults(recorded: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """An identity from a config.json, with the defaults of options and hyperparameters that its version of the model lacked."""
    options = {
        name: option_to_json(field.default)
        for name, field in fields(type(settings.config)).items()
        # None is not recorded, so nothing tells it from what was lacking
        if name not in ADDED_OPTIONS and type(None) not in typing.get_args(field.kind)
    }
    hparams = {
        name: hyperparameter_to_json(field.default)
        for name, field in fields(type(settings.members[0].hparams)).items()
        if field.default is not dataclasses.MISSING
    }
    members = [{**member, "hparams": hparams | member["hparams"]} for member in recorded["members"]]
    return {**recorded, "config": options | recorded["config"], "members": members}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two identities differ, each as ``name: old -> new``.

    Example:
      >>> differences({"a": 1, "config": {"b": 2}}, {"a": 1, "config": {"b": 3}})
      ['b: 2 -> 3']
    """
    changed: list[str] = []
    old, new = without_place(old), without_place(new)
    for key in [*old, *(key for key in new if key not in old)]:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changed += [f"init_from {text}" if key == "init_from" else text for text in differences(before, after)]
        elif key == "members" and isinstance(before, Sequence) and isinstance(after, Sequence):
            old_grid, new_grid = grid(before), grid(after)
            names = [*old_grid, *(name for name in new_grid if name not in old_grid)]
            pairs = ((name, old_grid.get(name), new_grid.get(name)) for name in names)
            changed += [f"{name}: {was} -> {now}" for name, was, now in pairs if was != now]
        else:
            changed.append(f"{key}: {_given_or_default(key, before)} -> {_given_or_default(key, after)}")
    return changed


def _given_or_default(name: str, value: object) -> Any:
    """Return what stands for a value in a message: of one that an identity leaves out, the flag's default."""
    if value is not None:
        return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
    field = {**fields(DataOptions), **fields(RunOptions)}.get(name)
    return "not given" if field is None or field.default in (None, ()) else field.default


def grid(members: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A population in few words: "seeds", and each hyperparameter with its values, as a command line has them."""
    seeds = dict.fromkeys(str(member["seed"]) for member in members)
    names = dict.fromkeys(name for member in members for name in member["hparams"])
    texts = {name: dict.fromkeys(_text(member["hparams"].get(name)) for member in members) for name in names}
    return {"seeds": ",".join(seeds), **{name: ",".join(values) for name, values in texts.items()}}


def _text(value: Any) -> str:
    if _is_function(value):
        return f"{value['function']} {value['values']}"
    return "off" if value is None else write(hyperparameter_from_json(value))
