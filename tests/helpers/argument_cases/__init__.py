"""Tables of public functions: for each argument two values with which the results differ, or the second is refused."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

UNSET = object()


class Refused(NamedTuple):
    """A second value that is refused; ``match`` is part of the message, lest something else be wrong."""

    value: Any
    match: str


class ShownBy(NamedTuple):
    """The test that shows an argument's effect: a file of tests, which passes the argument by its name or, where it is first,
    calls the function."""

    path: str
    text: str


class Made(NamedTuple):
    """A value that takes long to make, and is made when it is needed."""

    make: Callable[[], Any]


class Given(NamedTuple):
    """A value of an argument that stands in error messages alone."""

    value: Any


class Pair(NamedTuple):
    """Two values of one argument; ``beside``: values that other arguments have meanwhile, where the first ones hide the effect;
    ``usual``: the argument's value while others vary, by default the first."""

    first: Any
    second: Any
    beside: Mapping[str, Any] = {}
    usual: Any = UNSET


class Case(NamedTuple):
    """A row: argument -> (first, second), ``Pair``, ``Given`` or ``ShownBy``; and what of the result is compared."""

    arguments: Mapping[str, Any]
    observe: Callable[[Any], Any] = lambda result: result


def call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a function; values of *args and **options are spread, and those that are to be made are."""
    arguments = {name: value.make() if isinstance(value, Made) else value for name, value in arguments.items()}
    positional, named = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in arguments:
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional += arguments[name]
        elif parameter.kind is parameter.VAR_KEYWORD:
            named |= arguments[name]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = arguments[name]
        else:
            positional.append(arguments[name])
    return function(*positional, **named)


def contents(value: Any) -> Iterator[Any]:
    """What a value holds, as comparable leaves: arrays by their bytes, functions by their names, other objects by their fields."""
    if isinstance(value, jax.Array | np.ndarray | np.generic | int | float | bool):
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        yield (array.shape, str(array.dtype), array.tobytes())
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield str(name)
            yield from contents(entry)
    elif isinstance(value, tuple | list | set):
        yield len(value)
        for entry in value:
            yield from contents(entry)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__
        for field in dataclasses.fields(value):
            yield field.name
            yield from contents(getattr(value, field.name))
    elif callable(value):
        yield getattr(value, "__qualname__", type(value).__name__)
    else:
        yield str(value)


def differ(before: Any, after: Any) -> bool:
    """Tell whether two results hold different things."""
    return list(contents(before)) != list(contents(after))


def pairs(case: Case) -> Iterator[tuple[str, Pair]]:
    """The arguments that the table itself shows."""
    for name, values in case.arguments.items():
        if not isinstance(values, ShownBy | Given):
            yield name, values if isinstance(values, Pair) else Pair(*values)
