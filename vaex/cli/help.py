"""``--help``: every flag, grouped, typed and explained, by tyro. Imports no jax unless a model is named."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping

from vaex import data, models
from vaex.configuration.declare import Declaration, Field, fields, plain_kind
from vaex.configuration.grammar import write, write_hyperparameter
from vaex.configuration.run_options import GROUPS
from vaex.configuration.settings import stage_fields

GRAMMAR = (
    "Each takes one value or several (a,b,c: a population over their grid); a value is a number, "
    "ramp:START:STOP:STEPS, cosine:START:STOP:STEPS, exponential:START:STOP:STEPS, cycle:START:STOP:PERIOD, several of these one "
    "after the other, as ramp:0:1e-3:500+cosine:1e-3:0:5000 or hold:1e-3:2000+1e-4, or a function of the step, FILE.py:NAME."
)
OPTIONS = "Options of the model. Several values, a,b,c, make a run of each, and one table over all; so does --batch_size=64,128."
STAGES = "Stages are trained one after the other, each on what the one before has learned; --steps is the first's."


def print_help(module: types.ModuleType | None) -> typing.NoReturn:
    """Print the help of every flag, and of the model's own where one is named; exits with 0."""
    import tyro

    groups = [(name, _options_class(name, fields(group), (group.__doc__ or "").strip())) for name, group in GROUPS]
    if module is not None:
        groups.append(("model", _options_class("Model", fields(module.Config), OPTIONS)))
        if stages := stage_fields(module):
            groups.append(("later_stages", _options_class("Stages", stages, STAGES)))
        groups.append(("hyperparameters", _hyperparameters_class(fields(module.HParams))))
    cls = dataclasses.make_dataclass(
        "Flags",
        [(name, tyro.conf.OmitArgPrefixes[kind], dataclasses.field(default_factory=kind)) for name, kind in groups],
    )
    if module is None:
        intro = "Train, evaluate and draw a model; the same command continues it."
    else:
        intro = (module.__doc__ or "").strip().splitlines()[0]
    more = (
        ""
        if module is not None
        else "\n\nA model's own flags: --model=NAME --help. Export of a run: vaex export --help. Version: vaex --version"
    )
    tyro.cli(
        cls,
        args=["--help"],
        prog="run.py",
        description="\n".join([intro, "", *_lists()]) + more,
        use_underscores=True,
    )
    raise SystemExit(0)


def _lists() -> list[str]:
    """The models by family and the data sets, a line each."""
    width = max(map(len, [*models.MODELS, *data.DATASETS]))
    lines = []
    for family, entries in models.FAMILIES.items():
        lines.append(f"Models, {family.replace('_', ' ')}:")
        lines += [f"  {name:<{width}}  {entry.summary} ({entry.source})" for name, entry in entries.items()]
        lines.append("")
    lines += _installed(width)
    return [*lines, "Data sets:", *(f"  {name:<{width}}  {summary}" for name, summary in data.DATASETS.items())]


def _installed(width: int) -> list[str]:
    """The models of installed packages, and why the name of one cannot be used."""
    installed = models.installed_models()
    rows = [
        f"  {name:<{width}}  {model.module} ({model.package}{'; ' if model.problem else ''}{model.problem})"
        for name, model in installed.items()
    ]
    return ["Models of installed packages:", *rows, ""] if rows else []


def _described(declaration: Declaration) -> str:
    """The sentence of a declaration, with its unit and range where these say something."""
    low, high = declaration.low, declaration.high
    bounds = ""
    if math.isfinite(low) and math.isfinite(high) and high < 2**31 - 1:
        bounds = f"from {low:g} to {high:g}"
    elif math.isfinite(low) and low not in (0, 1):
        bounds = f"at least {low:g}"
    notes = ", ".join(note for note in (declaration.unit, bounds) if note)
    return f"{declaration.doc} ({notes})" if notes else declaration.doc


def _options_class(name: str, options: Mapping[str, Field], doc: str) -> type:
    """A dataclass of options for tyro, with tuples in the grammar of flags."""
    import tyro

    rows = []
    for field in options.values():
        kind, default, metavar, hint = plain_kind(field.kind), field.default, None, None
        if kind is not field.kind:  # an option that may be None: its default is explained by its sentence
            hint = ""
            default = "" if typing.get_origin(kind) is tuple else kind()
        if typing.get_origin(kind) is tuple:
            of_names = typing.get_args(kind)[0] is str
            kind, default, metavar = str, write(default) if default else "", "NAME[,..]" if of_names else "INTxINT.."
            if field.name == "seeds":
                metavar = "SEED[:SEED][,..]"
        elif kind is str and default == "" and hint is None:
            hint = "(required)"
        described = tyro.conf.arg(help=_described(field.declaration), metavar=metavar, help_behavior_hint=hint)
        rows.append((field.name, typing.Annotated[kind, described], dataclasses.field(default=default)))
    cls = dataclasses.make_dataclass(name.capitalize(), rows)
    cls.__doc__ = doc
    return cls


def _hyperparameters_class(hparams: Mapping[str, Field]) -> type:
    """A dataclass of hyperparameters for tyro, each a text."""
    import tyro

    rows = []
    for field in hparams.values():
        described = tyro.conf.arg(help=_described(field.declaration), metavar="VALUE[,VALUE..]")
        default = write_hyperparameter(field, field.default)
        rows.append((field.name, typing.Annotated[str, described], dataclasses.field(default=default)))
    cls = dataclasses.make_dataclass("Hyperparameters", rows)
    cls.__doc__ = GRAMMAR
    return cls
