"""From the words of a command line to a checked configuration. Imports neither jax nor a model until one is named."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import pathlib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from vaex import data, models
from vaex.errors import UserError, nearest

HIDDEN = ("clip", "average")  # static switches that follow from hyperparameters
DEFAULTS = {"dataset": "digits", "steps": 3000, "batch_size": 128}


@dataclass(frozen=True)
class RunFlags:
    """The run.

    Attributes:
      model: a name from the list below, or a module of your own such as my_package.my_module.
      steps: how many steps to train in all; a finished run continues with a larger number.
      epochs: the same in passes over the training data.
      batch_size: examples per step.
      seeds: of initialisation and noise; several make a population, as 0:8 (0 to 7) or 1,5.
      out: the run directory; by default runs/MODEL-DATASET-HASH. The same command continues a stopped run.
      overwrite: start again where the run directory already holds a run.
      log_every: steps per row of metrics.jsonl.
      checkpoint_every: steps between checkpoints; by default about one a minute.
      devices: how many devices to use; by default all.
      population_strategy: members at once (vmap) or one after the other (members).
    """

    model: str = ""
    steps: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    seeds: str = "0"
    out: str | None = None
    overwrite: bool = False
    log_every: int = 100
    checkpoint_every: int | None = None
    devices: int | None = None
    population_strategy: Literal["auto", "vmap", "members"] = "auto"


@dataclass(frozen=True)
class DataFlags:
    """The data.

    Attributes:
      dataset: a name from the list below, or a file of your own, PATH.npz.
      data_seed: of the order of examples, which all members share.
      data_dir: where prepared data sets live.
      manual_dir: where original files lie that you downloaded yourself.
      binarize: grey values to 0 and 1; dynamic draws anew at each step, auto does so for a bernoulli likelihood.
      dequantize: uniform adds noise within a level, so that densities bound the likelihood of 8-bit data.
    """

    dataset: str | None = None
    data_seed: int = 0
    data_dir: str | None = None
    manual_dir: str | None = None
    binarize: Literal["auto", "none", "dynamic", "threshold"] = "auto"
    dequantize: Literal["none", "uniform"] = "none"


@dataclass(frozen=True)
class EvaluationFlags:
    """The evaluation at the end of the run.

    Attributes:
      eval_split: which examples; choose settings on validation, read test once.
      eval_images: how many of them the importance-weighted log-likelihood uses.
      eval_samples: importance samples K per example.
      show: draw the likelihood's mean, or a sample from it.
      figures: whether to draw pictures.
    """

    eval_split: Literal["test", "validation"] = "test"
    eval_images: int = 1000
    eval_samples: int = 100
    show: Literal["mean", "sample"] = "mean"
    figures: bool = True


GROUPS: tuple[tuple[str, type], ...] = (("run", RunFlags), ("data", DataFlags), ("evaluation", EvaluationFlags))
LEAST = {"steps": 1, "batch_size": 1, "log_every": 1, "checkpoint_every": 1, "devices": 1, "eval_images": 1, "eval_samples": 1, "data_seed": 0}


class Member(NamedTuple):
    """One member of a population: its seed and the text of each hyperparameter."""

    seed: int
    hparams: dict[str, str]


class Settings(NamedTuple):
    """A checked command line. ``config`` is the model's static Config; ``members`` the grid, seeds varying fastest."""

    model: str
    module: types.ModuleType
    run: RunFlags
    data: DataFlags
    evaluation: EvaluationFlags
    config: Any
    members: tuple[Member, ...]
    varied: tuple[str, ...]


def help_texts(cls: type) -> dict[str, str]:
    """Field -> its line under "Attributes:" in the docstrings of ``cls`` and what it inherits from."""
    import docstring_parser

    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for entry in docstring_parser.parse(base.__doc__ or "").params:
            texts[entry.arg_name] = " ".join((entry.description or "").split())
    return texts


def _types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.name not in HIDDEN}


def _show(value: Any) -> str:
    """The text of a field's default, in the grammar of flags."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a Schedule
        start, stop, begin, length, period, cosine = (f"{float(v):g}" for v in value)
        if start == stop:
            return start
        if period != "0":
            return f"cycle:{start}:{stop}:{period}:{float(length) / float(period):g}"
        return f"{'cosine' if cosine != '0' else 'ramp'}:{start}:{stop}:{length}" + (f":{begin}" if begin != "0" else "")
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def convert(name: str, kind: Any, text: str) -> Any:
    """The value of ``text`` for a flag of type ``kind``.

    Raises: UserError that says what was expected.
    Example:
      >>> convert("hidden", tuple[int, ...], "500x500")
      (500, 500)
    """
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in typing.get_args(kind):
            return None
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if text not in arguments:
            raise UserError(f"--{name}={text}: {nearest(text, map(str, arguments))}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"--{name}={text}: expected true or false")
        return text.lower() == "true"
    try:
        if origin is tuple:
            return tuple(arguments[0](part) for part in text.split("x")) if text else ()
        value = kind(text)
    except ValueError:
        example = {int: "a whole number", float: "a number"}.get(kind, "whole numbers joined by x, such as 500x500")
        raise UserError(f"--{name}={text}: expected {example}") from None
    if kind is float and not math.isfinite(value):
        raise UserError(f"--{name}={text}: expected a finite number")
    if name in LEAST and value < LEAST[name]:
        raise UserError(f"--{name}={text}: expected at least {LEAST[name]}")
    return value


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0``, ``1,5`` or ``0:8``.

    Example:
      >>> parse_seeds("0:3,7")
      (0, 1, 2, 7)
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            seeds.extend(range(int(first), int(last)) if colon else [int(first)])
    except ValueError:
        raise UserError(f"--seeds={text}: expected whole numbers, as 0:8 (0 to 7) or 1,5") from None
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UserError(f"--seeds={text}: expected at least one seed, all different, each from 0 to 2^32 - 1")
    return tuple(seeds)


def _ranges(cls: type) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for base in reversed(cls.__mro__):
        found |= vars(base).get("RANGES", {})
    return found


def _parse_hparam(name: str, text: str, bounds: tuple[float, float] | None) -> tuple[str, ...]:
    """The texts of one hyperparameter flag, each checked."""
    from vaex import schedules

    parts = tuple(part.strip() for part in text.split(","))
    for part in parts:
        try:
            schedule = schedules.parse(part)
        except ValueError as error:
            raise UserError(f"--{name}={text}: {error}; several values are joined by commas") from None
        low, high = bounds or (-math.inf, math.inf)
        if not all(low <= float(value) <= high for value in (schedule.start, schedule.stop)):
            raise UserError(f"--{name}={text}: expected values from {low:g} to {high:g}")
    if len(set(parts)) < len(parts):
        raise UserError(f"--{name}={text}: a value stands twice")
    return parts


# --- the command line ---------------------------------------------------------------------------------------------


def _split(argv: Sequence[str]) -> dict[str, str | None]:
    """Flag -> text from ``--flag=value``, ``--flag value``, ``--flag`` and ``--no-flag``."""
    words: dict[str, str | None] = {}
    waiting = None
    for word in argv:
        if word in ("-h", "--help"):
            words["help"] = None
            waiting = None
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in words:
                raise UserError(f"--{name} stands twice; several values of a hyperparameter are joined by commas")
            words[name] = value if equals else None
            waiting = None if equals else name
        elif waiting is not None:
            words[waiting], waiting = word, None
        else:
            raise UserError(f"{word!r} is not a flag; write --flag=value, such as --model=beta_vae")
    return words


def _tables(module: types.ModuleType) -> tuple[dict[str, Any], dict[str, Any]]:
    """Types of the static flags and defaults of the hyperparameter flags of a model; no flag may have two meanings."""
    config, hparams = _types(module.Config), _hparam_defaults(module)
    taken = {name for _, group in GROUPS for name in _types(group)} | {"help"}
    for name in (*config, *hparams):
        if name in taken:
            raise UserError(f"{module.__name__}: the field {name!r} is already a flag of every model; give it another name")
        taken.add(name)
    return config, hparams


def _hparam_defaults(module: types.ModuleType) -> dict[str, str]:
    values = module.HParams()
    return {field.name: _show(getattr(values, field.name)) for field in dataclasses.fields(values)}


def _who_has(flag: str) -> list[str]:
    def fields(name: str) -> set[str]:
        module = models.module(name)
        return {*_types(module.Config), *_hparam_defaults(module)}

    return [name for name in models.MODELS if flag in fields(name)]


def _refuse_unknown(flag: str, model: str, known: Sequence[str]) -> None:
    has = _who_has(flag)
    if has:
        raise UserError(f"--{flag} is not a flag of {model}; models that have it: {', '.join(has)}")
    raise UserError(f"--{flag} is not a flag; {nearest(flag, known).split(' Known:')[0]} See --model={model} --help")


def parse(argv: Sequence[str]) -> Settings:
    """Check a command line and resolve it to settings; ``--help`` prints and exits.

    Raises: UserError with one line that names the remedy.
    """
    words = _split(argv)
    model = words.get("model")
    if "help" in words and not model:
        print_help(None)
    if not model:
        raise UserError(f"--model=NAME is missing; one of {', '.join(models.MODELS)}, or a module of your own")
    module = models.module(model)
    config_types, hparam_defaults = _tables(module)
    if "help" in words:
        print_help(module)
    grouped = {name: _types(group) for name, group in GROUPS}
    known = {**{k: v for table in grouped.values() for k, v in table.items()}, **config_types}
    values: dict[str, Any] = {}
    for name, text in words.items():
        kind = known.get(name)
        positive = name.removeprefix("no_")
        if text is None and kind is bool:
            values[name] = True
        elif text is None and known.get(positive) is bool and name != positive:
            values[positive] = False
        elif name not in known and name not in hparam_defaults:
            _refuse_unknown(name, model, [*known, *hparam_defaults])
        elif not text and name != "hidden":
            raise UserError(f"--{name} lacks its value; write --{name}=VALUE")
        elif name in known:
            values[name] = convert(name, kind, text or "")
    groups = {name: group(**{k: values[k] for k in grouped[name] if k in values}) for name, group in GROUPS}
    if groups["run"].steps is not None and groups["run"].epochs is not None:
        raise UserError("--steps and --epochs say the same thing twice; give one of them")
    if groups["run"].epochs is not None and not groups["run"].epochs > 0:
        raise UserError(f"--epochs={groups['run'].epochs:g}: expected more than 0")
    ranges = _ranges(module.HParams)
    grid = {name: _parse_hparam(name, words.get(name) or text, ranges.get(name)) for name, text in hparam_defaults.items()}
    config = module.Config(**{k: values[k] for k in config_types if k in values})
    return settings(model, module, groups["run"], groups["data"], groups["evaluation"], config, grid)


def settings(
    model: str, module: types.ModuleType, run: RunFlags, data_flags: DataFlags, evaluation: EvaluationFlags, config: Any,
    grid: Mapping[str, tuple[str, ...]],
) -> Settings:  # fmt: skip
    """Settings from checked parts: the grid is expanded into members and the model's own defaults are filled in."""
    defaults = DEFAULTS | getattr(module, "DEFAULTS", {})
    steps = run.steps if run.epochs is not None or run.steps is not None else defaults["steps"]
    run = dataclasses.replace(run, model=model, steps=steps, batch_size=run.batch_size or defaults["batch_size"])
    data_flags = dataclasses.replace(data_flags, dataset=data_flags.dataset or defaults["dataset"])
    seeds = parse_seeds(run.seeds)
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    members = tuple(Member(seed, hparams) for hparams in combinations for seed in seeds)
    varied = tuple(name for name, texts in grid.items() if len(texts) > 1)
    switches = {"clip": any(text != "inf" for text in grid.get("clip_norm", ())),
                "average": any(text != "0" for text in grid.get("average_decay", ()))}  # fmt: skip
    names = {field.name for field in dataclasses.fields(config)}
    config = dataclasses.replace(config, **{name: value for name, value in switches.items() if name in names})
    return Settings(model, module, run, data_flags, evaluation, config, members, varied)


# --- what a run is, on disk ---------------------------------------------------------------------------------------


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
            found.append(f"members: {_grid(before)} -> {_grid(after)}")
        else:
            found.append(f"{key}: {before} -> {after}")
    return found


def _grid(members: Any) -> str:
    """A population in few words: seeds, and each hyperparameter with its values."""
    seeds = list(dict.fromkeys(member["seed"] for member in members))
    names = members[0]["hparams"]
    values = {name: list(dict.fromkeys(m["hparams"].get(name, "") for m in members)) for name in names}
    return " ".join([f"seeds={','.join(map(str, seeds))}", *(f"{name}={','.join(texts)}" for name, texts in values.items())])


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
    flags = DataFlags(dataset or facts["dataset"], facts["data_seed"], binarize=facts["binarize"], dequantize=facts["dequantize"])
    return Settings(facts["model"], module, run, flags, EvaluationFlags(), module.Config(**values), members, varied)


# --- help ---------------------------------------------------------------------------------------------------------


def print_help(module: types.ModuleType | None) -> typing.NoReturn:
    """Print the help of every flag, and of the model's own where one is named; exits with 0."""
    import tyro

    groups: list[tuple[str, Any]] = [(name, _described(group, group())) for name, group in GROUPS]
    if module is not None:
        config = module.Config()
        groups.append(("model", _described(module.Config, config, "Static choices of the model (one value each).")))
        texts = _hparam_defaults(module)
        help_of = help_texts(module.HParams)
        fields = [(name, typing.Annotated[str, tyro.conf.arg(help=help_of.get(name, ""), metavar="VALUE[,VALUE..]")],
                   dataclasses.field(default=text)) for name, text in texts.items()]  # fmt: skip
        described = dataclasses.make_dataclass("Hyperparameters", fields)
        described.__doc__ = (
            "Each takes one value or several (a,b,c: a population over their grid); a value is a number, "
            "ramp:START:STOP:STEPS, cosine:START:STOP:STEPS or cycle:START:STOP:PERIOD."
        )
        groups.append(("hyperparameters", described))
    cls = dataclasses.make_dataclass(
        "Flags", [(name, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind)) for name, kind in groups]
    )
    width = max(map(len, [*models.MODELS, *data.DATASETS]))
    lists = ["Models:", *(f"  {n:<{width}}  {summary}" for n, (_, summary) in models.MODELS.items()),
             "", "Data sets:", *(f"  {n:<{width}}  {summary}" for n, summary in data.DATASETS.items())]  # fmt: skip
    intro = (module.__doc__ or "").strip().splitlines()[0] if module is not None else "Train, evaluate and draw a model; the same command continues it."
    more = "" if module is not None else "\n\nA model's own flags: --model=NAME --help"
    tyro.cli(cls, args=["--help"], prog="run.py", description="\n".join([intro, "", *lists]) + more, use_underscores=True,
             config=(tyro.conf.FlagConversionOff,))  # fmt: skip
    raise SystemExit(0)


def _described(cls: type, defaults: Any, doc: str | None = None) -> Any:
    """A dataclass of the same fields for tyro, with texts from the docstring and tuples in the flags' grammar."""
    import tyro

    texts, fields = help_texts(cls), []
    for name, kind in _types(cls).items():
        default = getattr(defaults, name)
        if typing.get_origin(kind) is tuple:
            kind, default, metavar = str, _show(default), "INTxINT.."
        else:
            metavar = None
        annotation = typing.Annotated[kind, tyro.conf.arg(help=texts.get(name, ""), metavar=metavar)]
        fields.append((name, annotation, dataclasses.field(default=default)))
    described = dataclasses.make_dataclass(cls.__name__, fields)
    described.__doc__ = doc or (cls.__doc__ or "").strip().splitlines()[0]
    return described
