"""From the words of a command line to checked settings. Imports neither jax nor a model until one is named."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from typing import Any

from vaex import models
from vaex.cli import help as usage
from vaex.configuration.flags import (
    COUNT,
    GROUPS,
    convert,
    field_types,
    hparam_defaults,
    parse_hparam,
    ranges,
    stage_flags,
)
from vaex.configuration.settings import Settings, settings
from vaex.errors import UserError, nearest


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
    for part in ("Config", "HParams"):
        if not dataclasses.is_dataclass(getattr(module, part)):
            raise UserError(f"{module.__name__}: {part} is not a dataclass; write @dataclass(frozen=True) above it")
    config, hparams = field_types(module.Config), hparam_defaults(module)
    taken = {name for _, group in GROUPS for name in field_types(group)} | {"help", *stage_flags(module)}
    for name in (*config, *hparams):
        if name in taken or name.removeprefix("no_") in taken:
            raise UserError(
                f"{module.__name__}: the field {name!r} is already a flag, of every model or of this one; give it another name"
            )
        taken.add(name)
    return config, hparams


def _model_flags() -> dict[str, set[str]]:
    """Model -> its own flags, over the registry."""
    modules = {name: models.module(name) for name in models.MODELS}
    return {
        name: {*field_types(found.Config), *hparam_defaults(found), *stage_flags(found)}
        for name, found in modules.items()
    }


def _refuse_unknown(flag: str, model: str, known: Sequence[str]) -> None:
    flags_of = _model_flags()
    has = [name for name, flags in flags_of.items() if flag in flags]
    if has:
        raise UserError(f"--{flag} is not a flag of {model}; models that have it: {', '.join(has)}")
    hint = nearest(flag, known).split("Known:")[0] or nearest(flag, set().union(*flags_of.values())).split("Known:")[0]
    raise UserError(f"--{flag} is not a flag; {hint}see --model={model} --help")


def parse(argv: Sequence[str]) -> Settings:
    """Check a command line and resolve it to settings; ``--help`` prints and exits.

    Raises: UserError with one line that names the remedy.
    """
    words = _split(argv)
    model = words.get("model")
    if "help" in words and not model:
        usage.print_help(None)
    if not model:
        raise UserError(f"--model=NAME is missing; one of {', '.join(models.MODELS)}, or a module of your own")
    module = models.module(model)
    config_types, default_texts = _tables(module)
    if "help" in words:
        usage.print_help(module)
    grouped = {name: field_types(group) for name, group in GROUPS}
    of_stages = stage_flags(module)
    known = {**{k: v for table in grouped.values() for k, v in table.items()}, **config_types}
    known |= dict.fromkeys(of_stages, int)
    values: dict[str, Any] = {}
    for name, text in words.items():
        kind = known.get(name)
        positive = name.removeprefix("no_")
        if text is None and kind is bool:
            values[name] = True
        elif text is None and known.get(positive) is bool and name != positive:
            if positive in words:
                raise UserError(f"--{positive} and --{name} contradict each other; give one of them")
            values[positive] = False
        elif name not in known and name not in default_texts:
            _refuse_unknown(name, model, [*known, *default_texts])
        elif text is None or (not text and name != "hidden"):
            raise UserError(f"--{name} lacks its value; write --{name}=VALUE")
        elif name in known:
            values[name] = convert(name, kind, text, COUNT if name in of_stages else None)
    groups = {name: group(**{k: values[k] for k in grouped[name] if k in values}) for name, group in GROUPS}
    if groups["run"].steps is not None and groups["run"].epochs is not None:
        raise UserError("--steps and --epochs say the same thing twice; give one of them")
    if groups["run"].epochs is not None and not groups["run"].epochs > 0:
        raise UserError(f"--epochs={groups['run'].epochs:g}: expected more than 0")
    allowed = ranges(module.HParams)
    grid = {
        name: parse_hparam(name, words.get(name) or text, allowed.get(name), infinite=text == "inf")
        for name, text in default_texts.items()
    }
    config = module.Config(**{k: values[k] for k in config_types if k in values})
    chosen = settings(model, module, groups["run"], groups["data"], groups["evaluation"], config, grid)
    return chosen._replace(
        stage_steps={flag.removesuffix("_steps"): values.get(flag, n) for flag, n in of_stages.items()}
    )
