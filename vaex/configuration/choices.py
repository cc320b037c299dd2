"""Options that are given several values: a run for each combination, since each compiles a program of its own."""

from __future__ import annotations

import itertools
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from vaex.configuration.declare import Field, fields, plain_kind
from vaex.configuration.grammar import read_option, write
from vaex.configuration.run_options import RunOptions
from vaex.errors import UserError


class Choice(NamedTuple):
    """One combination of values.

    Attributes:
      name: such as "latent_dim=2_network=conv", also of the folder of its run; "" where nothing has several values.
      values: option -> its value, of those that have several.
    """

    name: str
    values: dict[str, Any]


def several_options(module: types.ModuleType) -> dict[str, Field]:
    """The options that may have several values: those of the model, and the batch size."""
    return {**fields(module.Config), "batch_size": fields(RunOptions)["batch_size"]}


def texts_of(field: Field, text: str) -> tuple[str, ...]:
    """Return the texts of several values, joined by commas, or the text alone.

    The text of a free option may hold commas of its own and stays one value.

    Example:
      >>> from vaex.configuration.declare import Declaration
      >>> texts_of(Field("hidden", tuple[int, ...], (), Declaration()), "512x512,256")
      ('512x512', '256')
      >>> texts_of(Field("blocks", str, "", Declaration()), "8x2,4x2")
      ('8x2,4x2',)
    """
    kind = plain_kind(field.kind)
    single = kind not in (int, float, bool) and typing.get_origin(kind) not in (tuple, Literal)
    return (text,) if single else tuple(part.strip() for part in text.split(","))


def values_of(field: Field, value: Any) -> tuple[Any, ...]:
    """Return the several values in a list, or the value alone; an option that is itself a sequence has them in a list of sequences.

    Example:
      >>> from vaex.configuration.declare import Declaration
      >>> hidden, latent_dim = Field("hidden", tuple[int, ...], (), Declaration()), Field("latent_dim", int, 2, Declaration())
      >>> values_of(hidden, [512, 512]), values_of(hidden, [(512, 512), (256,)]), values_of(latent_dim, [2, 10])
      (([512, 512],), ((512, 512), (256,)), (2, 10))
    """
    several = isinstance(value, list | range) or (getattr(value, "ndim", 0) == 1 and not isinstance(value, tuple))
    if several and _is_sequence(field):
        several = any(isinstance(entry, Sequence) for entry in value)
    if not several:
        return (value,)
    if not len(value):
        raise UserError(f"{field.name}: got no value; give one, or leave it out")
    return tuple(value)


def combinations(options: Mapping[str, Field], values: Mapping[str, Sequence[Any]]) -> list[Choice]:
    """Return all combinations of the options that have several values, the last varying fastest.

    Args:
      options: the options.
      values: option -> its values; texts are read first, so that they are named alike.
    Raises: UserError for a value that stands twice.
    """
    several = {name: list(entries) for name, entries in values.items() if len(entries) > 1}
    texts = {name: [_text(options[name], entry) for entry in entries] for name, entries in several.items()}
    for name, written in texts.items():
        if len(set(written)) < len(written):
            layers = "; widths of layers are joined by x, such as 500x500" if _is_sequence(options[name]) else ""
            raise UserError(
                f"--{name}={','.join(written)}: a value stands twice; give each once, and --seeds for repetitions{layers}"
            )
    combined = []
    for indices in itertools.product(*(range(len(entries)) for entries in several.values())):
        chosen = dict(zip(several, indices, strict=True))
        name = "_".join(f"{option}={texts[option][index]}" for option, index in chosen.items())
        combined.append(
            Choice(re.sub(r"[^\w.=+-]+", "-", name), {option: several[option][i] for option, i in chosen.items()})
        )
    return combined


def _is_sequence(field: Field) -> bool:
    """Return whether one value of an option is itself a sequence."""
    return typing.get_origin(plain_kind(field.kind)) is tuple


def _text(field: Field, value: object) -> str:
    """The text of a value, the same for all ways to write it."""
    if isinstance(value, str):
        return write(read_option(field, value))
    return write(tuple(value) if isinstance(value, list) else value)
