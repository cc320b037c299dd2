"""The text of options and hyperparameters: what a command line says, and how a value is written back.

The grammar is the command line's: ``500x500`` a tuple, ``0:8`` or ``1,5`` seeds, ``1,4,ramp:0:4:5000`` values of a
hyperparameter.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from vaex.configuration.declare import Field, check_option, plain_kind
from vaex.configuration.importing import import_object, is_importable, object_name
from vaex.errors import UserError, nearest

if TYPE_CHECKING:
    from vaex.schedules import Piecewise, Schedule

MOST_SEEDS = 65536  # far beyond any population; 0:1e9, typed by mistake, must not fill the memory


def write(value: Any) -> str:
    """The text of a value; of a number the shortest that stands for the same float32, so that 1e-3 and 0.001 are one value.

    Example:
      >>> write(0.001), write(1.0), write((500, 500)), write(None)
      ('0.001', '1', '500x500', 'none')
    """
    if hasattr(value, "functions"):
        return value.name
    if hasattr(value, "boundary"):
        return _write_pieces(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return _write_schedule(value)  # type: ignore[arg-type]
    if isinstance(value, tuple) and not any(map(callable, value)):
        return ("," if value and isinstance(value[0], str) else "x").join(map(str, value))
    if value is None:
        return "none"
    if isinstance(value, float):
        return _write_number(value)
    return str(value) if isinstance(value, bool | int | str) else object_name(value)


def write_hyperparameter(field: Field, value: object) -> str:
    """The text of a hyperparameter's value; the number that means "off" where it is None.

    Example:
      >>> from vaex.configuration.declare import Declaration
      >>> write_hyperparameter(Field("clip_norm", float | None, None, Declaration(off=math.inf)), None)
      'inf'
    """
    off = field.declaration.off
    return write(float(off) if value is None and off is not None else _as_float(value))


def hyperparameter_texts(hparams: object) -> dict[str, str]:
    """Hyperparameter -> the text of its value."""
    from vaex.configuration.declare import fields

    return {name: write_hyperparameter(field, getattr(hparams, name)) for name, field in fields(type(hparams)).items()}


def _as_float(value: object) -> Any:
    return float(value) if isinstance(value, int) else value


def _write_schedule(schedule: Schedule) -> str:
    start, stop, begin, length, period, cosine = (float(number) for number in schedule)  # type: ignore[arg-type]
    if start == stop:
        return _write_number(start)
    if period:
        return ":".join(["cycle", *map(_write_number, (start, stop, period, float(f"{length / period:.6g}")))])
    numbers = (start, stop, length, begin) if begin else (start, stop, length)
    return ":".join(["cosine" if cosine else "ramp", *map(_write_number, numbers)])


def _write_pieces(schedule: Piecewise) -> str:
    from vaex.schedules import Schedule

    texts, pieces = [], schedule.pieces()
    for piece in pieces:
        start, stop, begin, length, period, bend, _ = piece.numbers()
        if bend > 1:
            numbers = (start, stop, length, begin) if begin else (start, stop, length)
            texts.append(":".join(["exponential", *map(_write_number, numbers)]))
        elif start == stop and piece is not pieces[-1]:
            texts.append(f"hold:{_write_number(start)}:{_write_number(begin + length)}")
        else:
            texts.append(_write_schedule(Schedule(start, stop, begin, length, period, bend)))
    return "+".join(texts)


def _write_number(value: float) -> str:
    import numpy as np

    return str(np.float32(value)).removesuffix(".0")


def read_option(field: Field, text: str) -> Any:
    """The value of an option's text.

    Raises: UserError that says what was expected.
    Example:
      >>> from vaex.configuration.declare import Declaration
      >>> read_option(Field("hidden", tuple[int, ...], (), Declaration(low=1)), "500x500")
      (500, 500)
    """
    name, kind = field.name, plain_kind(field.kind)
    if kind is not field.kind and text.lower() == "none" and type(None) in typing.get_args(field.kind):
        return None
    if name == "seeds":
        return read_seeds(text)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if field.declaration.objects and ":" in text:
            return text
        choices = {str(choice): choice for choice in arguments}
        if text not in choices:
            raise UserError(f"--{name}={text}: {nearest(text, choices)}{_one_value(text)}")
        return choices[text]
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UserError(f"--{name}={text}: expected true or false")
        return text.lower() == "true"
    try:
        if origin is tuple and arguments[0] is str:
            return read_names(text)
        if origin is tuple:
            return tuple(arguments[0](part) for part in text.split("x")) if text else ()
        value = kind(text)
    except ValueError:
        example = {int: "a whole number", float: "a number"}.get(kind, "whole numbers joined by x, such as 500x500")
        raise UserError(f"--{name}={text}: expected {example}{_one_value(text)}") from None
    if kind is float and not math.isfinite(value):
        raise UserError(f"--{name}={text}: expected a finite number")
    check_option(field, value)
    return value


def read_names(text: str) -> tuple[str, ...]:
    """Names from ``encoder,decoder``.

    Example:
      >>> read_names("encoder, decoder"), read_names("")
      (('encoder', 'decoder'), ())
    """
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _one_value(text: str) -> str:
    return "; only hyperparameters, --seeds and options of the model take several values" if "," in text else ""


def read_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0``, ``1,5`` or ``0:8``.

    Example:
      >>> read_seeds("0:3,7")
      (0, 1, 2, 7)
    """
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, colon, last = part.partition(":")
            span = range(int(first), int(last) if colon else int(first) + 1)
            if len(seeds) + len(span) > MOST_SEEDS:
                raise UserError(f"--seeds={text}: expected at most {MOST_SEEDS} seeds in one run")
            seeds.extend(span)
    except UserError:
        raise
    except (ValueError, OverflowError):
        raise UserError(f"--seeds={text}: expected whole numbers, as 0:8 (0 to 7) or 1,5") from None
    check_seeds(seeds, text)
    return tuple(seeds)


def check_seeds(seeds: typing.Sequence[int], text: str) -> None:
    """Raise UserError, which shows ``text``, unless the seeds are different and each fits 32 bits."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0 or max(seeds) >= 2**32:
        raise UserError(f"--seeds={text}: expected at least one seed, all different, each from 0 to 2^32 - 1")


def read_hyperparameter(field: Field, text: str) -> tuple[Any, ...]:
    """The values of a hyperparameter's text: a number or a schedule each, None where it is switched off.

    Args:
      field: the hyperparameter.
      text: one value or several, joined by commas.
    Raises: UserError for a value that can't be read or used, or one that stands twice.
    Example:
      >>> from vaex.configuration.declare import Declaration
      >>> beta = Field("beta", float, 1.0, Declaration())
      >>> [write(value) for value in read_hyperparameter(beta, "1,4.0,ramp:0:4:5e3")]
      ['1', '4', 'ramp:0:4:5000']
    """
    values = tuple(_read_value(field, part.strip(), text) for part in text.split(","))
    keys = [write_hyperparameter(field, value) for value in values]
    if len(set(keys)) < len(keys):
        raise UserError(f"--{field.name}={text}: a value stands twice; give each once, and --seeds for repetitions")
    return values


def _read_value(field: Field, part: str, text: str) -> Any:
    import numpy as np

    from vaex import schedules

    if part.lower() == "none" and field.default is None and field.declaration.off is None:
        return None
    if _is_object_name(part):
        return read_function(field, import_object(field.name, part), part)
    try:
        with np.errstate(over="ignore"):  # what overflows float32 is refused below
            schedule = schedules.parse(part)
    except ValueError as error:
        raise UserError(f"--{field.name}={text}: {error}; several values are joined by commas") from None
    ends, off = np.asarray(schedule[:2], np.float64), field.declaration.off
    is_constant = ends.ndim == 1 and bool(ends[0] == ends[1])
    if off is not None and is_constant and ends[0] == off:
        return None
    if not np.all(np.isfinite(np.asarray(schedule, np.float64))):
        raise UserError(f"--{field.name}={text}: expected finite numbers")
    _check_values(field, ends, f"--{field.name}={text}")
    return float(write(float(ends[0]))) if is_constant and ":" not in part else schedule


def _is_object_name(text: str) -> bool:
    """Return True for MODULE:NAME or FILE.py:NAME, which no kind of schedule with its numbers is."""
    module, colon, name = text.rpartition(":")
    return bool(colon and module) and all(part.isidentifier() for part in name.split(".")) and ":" not in module


def read_function(field: Field, value: Any, name: str | None = None) -> Any:
    """The schedule that follows a user's function of the step; ``name``: by which it can be imported.

    Raises: UserError for a function that fails, or whose values are out of the hyperparameter's range.
    """
    from vaex import schedules

    if schedules.is_schedule(value):
        return value
    shown = f"{field.name}={name or getattr(value, '__qualname__', value)}"
    try:
        schedule = schedules.function(value, name or _importable_name(value))
    except (TypeError, ValueError) as error:
        raise UserError(f"{shown}: {error}") from None
    _check_values(field, schedules.probe(schedule), shown, rounding=1e-6)
    return schedule


def _importable_name(value: object) -> str | None:
    name = object_name(value)
    return name if is_importable(name) else None


def _check_values(field: Field, values: Any, shown: str, rounding: float = 0.0) -> None:
    """Raise UserError, which begins with ``shown``, for values of a schedule beyond the hyperparameter's range."""
    import numpy as np

    low, high = np.float32(field.declaration.low), np.float32(field.declaration.high)
    numbers = np.float32(values)
    slack = np.float32(rounding * np.max(np.abs(numbers)))
    if not np.all((low - slack <= numbers) & (numbers <= high + slack)):
        expected = f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{shown}: expected values {expected}")


def option_to_json(value: object) -> Any:
    """An option's value as JSON: tuples of numbers as lists, a user's objects by their names."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple) and not any(callable(entry) for entry in value):
        return list(value)
    return object_name(value)


def options_to_json(options: object, added: typing.Collection[str] = ()) -> dict[str, Any]:
    """Option -> its value as JSON, of a dataclass of options: of those that are not None, nor ``added`` and at their default."""
    from vaex.configuration.declare import fields

    values = {name: (option_to_json(getattr(options, name)), field) for name, field in fields(type(options)).items()}
    return {
        name: value
        for name, (value, field) in values.items()
        if value is not None and not (name in added and value == field.default)
    }


def hyperparameters_to_json(hparams: object) -> dict[str, Any]:
    """Hyperparameter -> its value as JSON."""
    from vaex.configuration.declare import fields

    return {name: hyperparameter_to_json(getattr(hparams, name)) for name in fields(type(hparams))}


def hyperparameter_to_json(value: Any) -> Any:
    """A hyperparameter's value as JSON: None, a number, the fields of a schedule that moves, or a function's name and values.

    Example:
      >>> from vaex.schedules import ramp
      >>> hyperparameter_to_json(4), hyperparameter_to_json(ramp(0.0, 4.0, 100))["stop"]
      (4.0, 4.0)
    """
    if value is None:
        return None
    if hasattr(value, "functions"):
        return {"function": value.name, "values": value.values()}
    if hasattr(value, "boundary"):
        return {name: [float(number) for number in numbers] for name, numbers in value._asdict().items()}
    if not hasattr(value, "_asdict"):
        return float(write(float(value)))
    schedule = {name: float(number) for name, number in value._asdict().items()}
    return float(write(schedule["start"])) if schedule["start"] == schedule["stop"] else schedule


def hyperparameter_from_json(value: Any) -> Any:
    """A hyperparameter's value from JSON: a number, None, or the fields of a ``Schedule`` or ``Piecewise``.

    Raises: KeyError or TypeError for a mapping that is no schedule, ValueError for a number that is none.
    """
    if isinstance(value, Mapping):
        import numpy as np

        from vaex.schedules import Piecewise, Schedule

        if "boundary" in value:
            return Piecewise(**{name: np.float32(numbers) for name, numbers in value.items()})
        return Schedule(**{name: np.float32(number) for name, number in value.items()})
    return value if value is None else float(value)
