"""From the arguments of a command line to checked settings. Imports neither jax nor a model until one is named."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, NamedTuple

from vaex import models
from vaex.cli import help as cli_help
from vaex.configuration import choices
from vaex.configuration.declare import Field, fields
from vaex.configuration.grammar import read_hyperparameter, read_option
from vaex.configuration.partition import part_of
from vaex.configuration.run_options import GROUPS
from vaex.configuration.settings import Settings, check_module, replace_run, settings, stage_fields
from vaex.errors import UserError, nearest


def split_arguments(arguments: Sequence[str]) -> dict[str, str | None]:
    """Flag -> text from ``--flag=value``, ``--flag value``, ``--flag`` and ``--no-flag``.

    Raises: UserError for an argument that is no flag, or a flag that stands twice.
    """
    texts: dict[str, str | None] = {}
    waiting = None
    for argument in arguments:
        if argument in ("-h", "--help"):
            texts["help"] = None
            waiting = None
        elif argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            name = name.replace("-", "_")
            if name in texts:
                raise UserError(f"--{name} stands twice; several values of a hyperparameter are joined by commas")
            texts[name] = value if equals else None
            waiting = None if equals else name
        elif waiting is not None:
            texts[waiting], waiting = argument, None
        else:
            raise UserError(f"{argument!r} is not a flag; write --flag=value, such as --model=beta_vae")
    return texts


class Command(NamedTuple):
    """What a command line asks for.

    Attributes:
      out: directory of all runs, where options have several values and ``--out`` is given; None where other jobs run parts of them.
      runs: name of each choice of these options -> settings; without them one run, called "".
    """

    out: str | None
    runs: dict[str, Settings]


def read_options(model: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Return options and hyperparameters by name, as ``vaex.train`` takes them, from flags that a script passes on.

    Raises: UserError for an argument that is no flag of the model, or a value that cannot be read.
    Example:
      >>> read_options("beta_vae", ["--hidden=64x32", "--beta=1,4", "--no-figures"])
      {'hidden': (64, 32), 'beta': (1.0, 4.0), 'figures': False}
    """
    texts, module = split_arguments(arguments), models.module(model)
    check_module(module)
    known, traced = _static_fields(module), fields(module.HParams)
    values = _read(texts, known, traced, model)
    return {
        name: read_hyperparameter(traced[name], texts[name] or "") if name in traced else values[name]
        for name in (flag if flag in known or flag in traced else flag.removeprefix("no_") for flag in texts)
    }


def parse_all(arguments: Sequence[str]) -> Command:
    """Check a command line and resolve it to settings; ``--help`` prints and exits.

    Raises: UserError with one line that names the remedy.
    """
    texts = split_arguments(arguments)
    model = texts.get("model")
    if "help" in texts and not model:
        cli_help.print_help(None)
    if not model:
        raise UserError(f"--model=NAME is missing; one of {', '.join(models.known_models())}, or a module of your own")
    module = models.module(model)
    check_module(module)
    if "help" in texts:
        cli_help.print_help(module)
    options, out = choices.several_options(module), texts.get("out")
    several = {name: choices.texts_of(options[name], text) for name, text in texts.items() if name in options and text}
    combined = choices.combinations(options, several)
    if len(combined) == 1 and "part" not in texts:
        return Command(None, {"": _settings(model, module, texts)})
    if len(combined) > 1 and (texts.get("coordinator_address") or "distributed" in texts):
        raise UserError(
            f"--{next(iter(combined[0].values))}: several processes train one run; give each option one value"
        )
    runs = {choice.name: _settings(model, module, {**texts, **choice.values}) for choice in combined}
    if "part" in texts:
        runs = part_of(texts["part"] or "", runs)
    placed = {name: replace_run(chosen, out=f"{out}/{name}") if out else chosen for name, chosen in runs.items()}
    return Command(None if "part" in texts else out, placed)


def _settings(model: str, module: types.ModuleType, texts: dict[str, str | None]) -> Settings:
    """Resolve the texts of flags, one value for each option, to settings."""
    groups = [(name, fields(group)) for name, group in GROUPS]
    static = [*groups, ("config", fields(module.Config)), ("stages", stage_fields(module))]
    traced = fields(module.HParams)
    values = _read(texts, _static_fields(module), traced, model)
    given = {part: {name: values[name] for name in group if name in values} for part, group in static}
    return settings(
        model,
        module,
        **{name: group(**given[name]) for name, group in GROUPS},
        config=module.Config(**given["config"]),
        grid={name: read_hyperparameter(field, texts[name] or "") for name, field in traced.items() if name in texts},
        stage_steps={name.removesuffix("_steps"): steps for name, steps in given["stages"].items()},
    )


def _static_fields(module: types.ModuleType) -> dict[str, Field]:
    """Option -> its field, of all groups of options and of the model's stages."""
    groups = (*(fields(group) for _, group in GROUPS), fields(module.Config), stage_fields(module))
    return {name: field for group in groups for name, field in group.items()}


def _read(
    texts: dict[str, str | None], known: dict[str, Field], traced: dict[str, Field], model: str
) -> dict[str, Any]:
    """Option -> value of the flags that were given."""
    values: dict[str, Any] = {}
    for name, text in texts.items():
        positive = name.removeprefix("no_")
        if text is None and name in known and known[name].kind is bool:
            values[name] = True
        elif text is None and positive in known and known[positive].kind is bool and name != positive:
            if positive in texts:
                raise UserError(f"--{positive} and --{name} contradict each other; give one of them")
            values[positive] = False
        elif name not in known and name not in traced:
            _refuse_unknown(name, model, [*known, *traced])
        elif text is None or (not text and name != "hidden"):
            raise UserError(f"--{name} lacks its value; write --{name}=VALUE")
        elif name in known:
            values[name] = read_option(known[name], text)
    return values


def _flags_of(module: types.ModuleType) -> set[str]:
    """A model's own flags."""
    return {*fields(module.Config), *fields(module.HParams), *stage_fields(module)}


def _refuse_unknown(flag: str, model: str, known: Sequence[str]) -> None:
    flags = {name: _flags_of(models.module(name)) for name in models.MODELS}
    has = [name for name, own_flags in flags.items() if flag in own_flags]
    if has:
        raise UserError(f"--{flag} is not a flag of {model}; models that have it: {', '.join(has)}")
    hint = nearest(flag, known).split("Known:")[0] or nearest(flag, set().union(*flags.values())).split("Known:")[0]
    raise UserError(f"--{flag} is not a flag; {hint}see --model={model} --help")
