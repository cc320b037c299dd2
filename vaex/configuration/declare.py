"""Options and hyperparameters, each declared once: default, range, unit and one sentence.

An *option* is static: it changes a shape or the control flow of a compiled program. A *hyperparameter* scales something: it is a
number or a schedule, an array of the train state, and members of a population may differ in it. Flags, ``--help``, range checks
and config.json are all read off the declaration::

    @hyperparameters
    class HParams(gaussian.HParams):
        beta: Scalar = hparam(2.0, low=0.0, doc="Weight of the KL divergence.")
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, dataclass_transform

from vaex.errors import UserError, nearest

C = TypeVar("C", bound=type)
KEY = "vaex"  # of a dataclass field's metadata
Needs: TypeAlias = Mapping[str, tuple[Any, ...]]  # option -> values, one of which it has


class Declaration(NamedTuple):
    """What a field says of itself beside its type and default.

    Attributes:
      doc: one sentence.
      low: least value; of a tuple, of each entry.
      high: largest value.
      unit: such as "steps" or "nats", for help and docs.
      off: the number that stands for None, a hyperparameter that is switched off, where it has to be written as one.
      objects: whether an object of a user's own, or its name, may stand for one of an option's choices.
      needs: options beside which alone the field has an effect, and their values that give it one: of several, any; () where it
        always has one. ``needs.refuse_idle`` reads them.
    """

    doc: str = ""
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    off: float | None = None
    objects: bool = False
    needs: tuple[Needs, ...] = ()


class Field(NamedTuple):
    """One option or hyperparameter of a class: its name, type, default and declaration."""

    name: str
    kind: Any
    default: Any
    declaration: Declaration


def option(
    default: object,
    *,
    doc: str,
    low: float = -math.inf,
    high: float = math.inf,
    unit: str = "",
    objects: bool = False,
    needs: Needs | tuple[Needs, ...] = (),
) -> Any:
    """Declare a static option.

    Args:
      default: its value where none is given.
      doc: one sentence that says what it is.
      low: least value; of a tuple, of each entry.
      high: largest value.
      unit: such as "steps".
      objects: whether a callable of a user's own, or its name MODULE:NAME, may stand for one of the choices.
      needs: other options and those of their values beside which this one has an effect, such as {"network": ("conv",)}, or
        several such, any of which will do; by default it always has one.
    """
    declaration = Declaration(doc, low, high, unit, objects=objects, needs=_alternatives(needs))
    return dataclasses.field(default=default, metadata={KEY: declaration})


def hparam(
    default: object,
    *,
    doc: str,
    low: float = -math.inf,
    high: float = math.inf,
    unit: str = "",
    off: float | None = None,
    needs: Needs | tuple[Needs, ...] = (),
) -> Any:
    """Declare a hyperparameter: a number or a ``Schedule``, traced.

    Args:
      default: its value where none is given; None where it is switched off by default.
      doc: one sentence that says what it scales.
      low: least value, also of a schedule's ends.
      high: largest value.
      unit: such as "nats".
      off: of a hyperparameter that may be None, the number that means the same; a population needs it where only some of its
        members switch the hyperparameter off, and the command line to write it.
      needs: as of ``option``.
    """
    declaration = Declaration(doc, low, high, unit, off, needs=_alternatives(needs))
    return dataclasses.field(default=default, metadata={KEY: declaration})


def _alternatives(needs: Needs | tuple[Needs, ...]) -> tuple[Needs, ...]:
    return needs if isinstance(needs, tuple) else (needs,)


def with_default(cls: type, name: str, default: object) -> Any:
    """Declare the field ``name`` of ``cls``, from which a class inherits, anew with another default.

    Example:
      >>> @options
      ... class Wide:
      ...     width: int = option(32, low=1, doc="Width of the network.")
      >>> @options
      ... class Narrow(Wide):
      ...     width: int = with_default(Wide, "width", 8)
      >>> Narrow().width, fields(Narrow)["width"].declaration.low
      (8, 1)
    """
    declared = {field.name: field.metadata for field in dataclasses.fields(cls)}
    return dataclasses.field(default=default, metadata=declared[name])


@dataclass_transform(frozen_default=True)
def options(cls: C) -> C:
    """Make ``cls`` a frozen dataclass of options, checked when it is made.

    Each value is checked against its type and its declared range; then ``cls.check(self)``, where the class has one, may look at
    several fields together.

    Raises: UserError, from the constructor, for a value of another type or out of range.
    Example:
      >>> @options
      ... class Sizes:
      ...     width: int = option(32, low=1, doc="Width of the network.")
      >>> Sizes(width=0)
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --width=0: expected at least 1
    """
    if "__post_init__" not in vars(cls):
        cls.__post_init__ = _check_options  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True)(cls)


@dataclass_transform(frozen_default=True)
def hyperparameters(cls: C) -> C:
    """Make ``cls`` a frozen dataclass of hyperparameters and a pytree of them.

    Numbers and schedules of numbers are checked against their declared ranges; arrays and tracers pass, since their values may
    not be known yet.

    Raises: UserError, from the constructor, for a number out of range.
    """
    import jax

    if "__post_init__" not in vars(cls):
        cls.__post_init__ = _check_hyperparameters  # type: ignore[attr-defined]
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@functools.cache
def fields(cls: type) -> dict[str, Field]:
    """Name -> field of a class of options or hyperparameters, inherited ones first."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: Field(field.name, hints[field.name], field.default, field.metadata.get(KEY, Declaration()))
        for field in dataclasses.fields(cls)
    }


def plain_kind(kind: object) -> Any:
    """A type without its alternative None.

    Example:
      >>> plain_kind(int | None)
      <class 'int'>
    """
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    return next(alternative for alternative in typing.get_args(kind) if alternative is not type(None))


def check_range(field: Field, value: Any, text: str) -> None:
    """Raise UserError, which shows ``text``, for a number beyond the field's range."""
    low, high = field.declaration.low, field.declaration.high
    if not low <= value <= high:
        wide = max(abs(low), abs(high)) >= 1e6 and low == int(low)
        bound = low if value < low else high
        number = str(int(bound)) if wide and math.isfinite(bound) else f"{bound:g}"
        raise UserError(f"--{field.name}={text}: expected {'at least' if value < low else 'at most'} {number}")


def _check_options(options: object) -> None:
    for field in fields(type(options)).values():
        check_option(field, getattr(options, field.name))
    check: Callable[[], None] | None = getattr(options, "check", None)
    if check is not None:
        check()


def check_option(field: Field, value: object) -> None:
    """Raise UserError for a value of another type than the option's, or out of its range."""
    if value is None and type(None) in typing.get_args(field.kind):
        return
    kind = plain_kind(field.kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if field.declaration.objects and (callable(value) or (isinstance(value, str) and ":" in value)):
            return
        if value not in arguments:
            raise UserError(f"--{field.name}={value}: {nearest(str(value), map(str, arguments))}")
    elif origin is tuple and arguments[0] is str:
        if not isinstance(value, tuple) or not all(isinstance(entry, str) and entry for entry in value):
            raise UserError(f"--{field.name}={value!r}: expected names, such as encoder,decoder")
    elif origin is tuple:
        text = "x".join(map(str, value)) if isinstance(value, tuple) else repr(value)
        if not isinstance(value, tuple) or not all(_is_whole(entry) for entry in value):
            raise UserError(f"--{field.name}={text}: expected a tuple of whole numbers, such as (500, 500)")
        if any(entry < field.declaration.low for entry in value):
            raise UserError(
                f"--{field.name}={text}: expected numbers of at least {field.declaration.low:g}, such as 500x500"
            )
    elif kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"--{field.name}={value}: expected true or false")
    elif kind is int:
        if not _is_whole(value):
            raise UserError(f"--{field.name}={value}: expected a whole number")
        check_range(field, value, str(value))
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"--{field.name}={value}: expected a number")
        check_range(field, value, f"{value:g}")


def _is_whole(value: object) -> bool:
    return not isinstance(value, bool) and hasattr(value, "__index__")


def _check_hyperparameters(hparams: object) -> None:
    for field in fields(type(hparams)).values():
        for number in _numbers(getattr(hparams, field.name)):
            if math.isnan(number):
                raise UserError(f"{field.name}=nan: expected a number or a schedule")
            check_range(field, number, f"{number:g}")


def _numbers(value: Any) -> Iterable[float]:
    """The numbers of a hyperparameter whose range can be checked: none of an array, which may be traced or stacked."""
    if isinstance(value, int | float):
        return (float(value),)
    if hasattr(value, "start") and hasattr(value, "stop"):  # a schedule; its class is imported only with jax
        import numpy as np

        ends = (value.start, value.stop)
        if hasattr(value, "boundary") and all(isinstance(end, np.ndarray) and end.ndim == 1 for end in ends):
            ends = (*value.start, *value.stop)  # of several pieces
        return tuple(float(end) for end in ends if isinstance(end, int | float | np.number))
    return ()
