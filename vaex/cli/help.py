"""``--help``: every flag, grouped, typed and explained, by tyro. Imports no jax unless a model is named."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from vaex import data, models
from vaex.configuration.flags import GROUPS, field_types, help_texts, hparam_defaults, show, stage_flags


def print_help(module: types.ModuleType | None) -> typing.NoReturn:
    """Print the help of every flag, and of the model's own where one is named; exits with 0."""
    import tyro

    groups: list[tuple[str, Any]] = [(name, _described(group, group())) for name, group in GROUPS]
    if module is not None:
        config = module.Config()
        groups.append(("model", _described(module.Config, config, "Static choices of the model (one value each).")))
        if stage_flags(module):
            groups.append(("later stages", _stages(module)))
        texts = hparam_defaults(module)
        help_of = help_texts(module.HParams)
        fields = [
            (
                name,
                typing.Annotated[str, tyro.conf.arg(help=help_of.get(name, ""), metavar="VALUE[,VALUE..]")],
                dataclasses.field(default=text),
            )
            for name, text in texts.items()
        ]
        described = dataclasses.make_dataclass("Hyperparameters", fields)
        described.__doc__ = (
            "Each takes one value or several (a,b,c: a population over their grid); a value is a number, "
            "ramp:START:STOP:STEPS, cosine:START:STOP:STEPS or cycle:START:STOP:PERIOD."
        )
        groups.append(("hyperparameters", described))
    cls = dataclasses.make_dataclass(
        "Flags",
        [(name, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind)) for name, kind in groups],
    )
    width = max(map(len, [*models.MODELS, *data.DATASETS]))
    lists = [
        *_models(width),
        "",
        "Data sets:",
        *(f"  {n:<{width}}  {summary}" for n, summary in data.DATASETS.items()),
    ]
    intro = (
        (module.__doc__ or "").strip().splitlines()[0]
        if module is not None
        else "Train, evaluate and draw a model; the same command continues it."
    )
    more = "" if module is not None else "\n\nA model's own flags: --model=NAME --help"
    tyro.cli(
        cls,
        args=["--help"],
        prog="run.py",
        description="\n".join([intro, "", *lists]) + more,
        use_underscores=True,
    )
    raise SystemExit(0)


def _models(width: int) -> list[str]:
    """The registry, a paragraph for each family."""
    lines = []
    for family, entries in models.FAMILIES.items():
        lines += [
            f"Models, {family}:",
            *(f"  {n:<{width}}  {it.summary} ({it.source})" for n, it in entries.items()),
            "",
        ]
    return lines[:-1]


def _stages(module: types.ModuleType) -> Any:
    """The flags of the steps of a model's later stages."""
    import tyro

    fields = []
    for flag, steps in stage_flags(module).items():
        told = f"how many steps to train the stage {flag.removesuffix('_steps')}, after the stages before it."
        fields.append((flag, typing.Annotated[int, tyro.conf.arg(help=told)], dataclasses.field(default=steps)))
    described = dataclasses.make_dataclass("LaterStages", fields)
    described.__doc__ = (
        "Stages are trained one after the other, each on what the one before has learned; --steps is the first's."
    )
    return described


def _described(cls: type, defaults: Any, doc: str | None = None) -> Any:
    """A dataclass of the same fields for tyro, with texts from the docstring and tuples in the flags' grammar."""
    import tyro

    texts, fields = help_texts(cls), []
    for name, kind in field_types(cls).items():
        default, metavar, hint = getattr(defaults, name), None, None
        if typing.get_origin(kind) is types.UnionType:  # an optional flag: its default is explained by its text
            kind = next(option for option in typing.get_args(kind) if option is not type(None))
            default, hint = kind(), ""
        elif typing.get_origin(kind) is tuple:
            kind, default, metavar = str, show(default), "INTxINT.."
        elif kind is str and default == "":
            hint = "(required)"
        annotation = typing.Annotated[
            kind, tyro.conf.arg(help=texts.get(name, ""), metavar=metavar, help_behavior_hint=hint)
        ]
        fields.append((name, annotation, dataclasses.field(default=default)))
    described = dataclasses.make_dataclass(cls.__name__, fields)
    described.__doc__ = doc or (cls.__doc__ or "").strip().splitlines()[0]
    return described
