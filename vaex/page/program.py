"""Functions of jax as short lists of array instructions, which the page's interpreter (``assets/program.js``) runs.

A function is traced to a jaxpr; calls are inlined, loops of fixed length unrolled, what depends on constants alone computed, and
each other equation becomes an instruction of ``vaex.page.primitives``. Arrays are float32, in row-major order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jax.typing import ArrayLike

from vaex.ops.platforms import plain_lowering

INLINED = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # parameters that hold the body of a call
LONGEST_LOOP = 512  # iterations that are unrolled
LARGEST_FOLDED = 1024  # values of a constant that is larger than what it is computed from


class Unsupported(Exception):
    """The function has an operation that the interpreter lacks; the message names it."""


class Operand(NamedTuple):
    """A value within a program: its number, shape and NumPy dtype, and its value where that is constant."""

    number: int
    shape: tuple[int, ...]
    dtype: np.dtype
    value: np.ndarray | None = None


class Instruction(NamedTuple):
    """``result`` of shape ``shape`` becomes ``name`` of the values numbered ``takes``."""

    name: str
    takes: tuple[int, ...]
    result: int
    shape: tuple[int, ...]
    attributes: dict[str, Any]


class Program(NamedTuple):
    """Instructions in their order.

    Attributes:
      inputs: shapes of the values numbered 0, 1, ...
      constants: number -> array.
      instructions: each result has a number of its own.
      result: number of the value that the program returns.
    """

    inputs: tuple[tuple[int, ...], ...]
    constants: dict[int, np.ndarray]
    instructions: list[Instruction]
    result: int


class Builder:
    """Collects the values and instructions of a program."""

    def __init__(self) -> None:
        self.count = 0
        self.constants: dict[int, np.ndarray] = {}
        self.instructions: list[Instruction] = []
        self._known: dict[int, Operand] = {}  # id of an array -> the operand; arrays stay alive in ``_alive``
        self._alive: list[Any] = []

    def _number(self) -> int:
        self.count += 1
        return self.count - 1

    def input(self, shape: Sequence[int], dtype: Any) -> Operand:
        """Return a new argument of the program."""
        return Operand(self._number(), tuple(shape), np.dtype(dtype))

    def constant(self, array: Any) -> Operand:
        """Return the operand of a constant; one array has one operand."""
        if id(array) not in self._known:
            value = np.asarray(array)
            number = self._number()
            self._alive.append(array)
            self.constants[number] = value
            self._known[id(array)] = Operand(number, value.shape, value.dtype, value)
        return self._known[id(array)]

    def emit(
        self, name: str, takes: Sequence[Operand], shape: Sequence[int], dtype: Any = np.float32, **attributes: Any
    ) -> Operand:
        """Append an instruction; return its result."""
        result = Operand(self._number(), tuple(int(n) for n in shape), np.dtype(dtype))
        numbers = tuple(operand.number for operand in takes)
        self.instructions.append(Instruction(name, numbers, result.number, result.shape, attributes))
        return result


# appends the instructions of an equation of which some operands vary; returns its results
Lower = Callable[[Builder, dict[str, Any], Sequence[Operand], Sequence[Any]], Sequence[Operand]]


def compile_program(
    function: Callable[..., jax.Array], *arguments: jax.ShapeDtypeStruct, rules: dict[str, Lower]
) -> tuple[Program, Callable[[str], Callable[..., jax.Array]]]:
    """Return the program of a function of arrays of fixed shapes, and the function with other constants.

    The second maps the name of a dtype to the function as it is when its floating-point constants are rounded to that dtype.

    Raises: Unsupported.
    """
    with plain_lowering():
        closed = jax.make_jaxpr(lambda *arrays: function(*arrays))(*arguments)
    builder = Builder()
    inputs = [builder.input(argument.shape, argument.dtype) for argument in arguments]
    (result,) = _inline(builder, closed.jaxpr, closed.consts, inputs, rules)

    def rounded(dtype: str) -> Callable[..., jax.Array]:
        constants = [_rounded(constant, dtype) for constant in closed.consts]
        call = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, constants))
        return lambda *arrays: call(*arrays)[0]

    shapes = tuple(operand.shape for operand in inputs)
    return _without_unused(Program(shapes, builder.constants, builder.instructions, result.number)), rounded


def _rounded(constant: ArrayLike, dtype: str) -> jax.Array:
    array = jnp.asarray(constant)
    return array.astype(dtype).astype(array.dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _inline(
    builder: Builder, jaxpr: Jaxpr, constants: Sequence[Any], operands: Sequence[Operand], rules: dict[str, Lower]
) -> list[Operand]:
    """Append the instructions of a jaxpr; return its results."""
    known: dict[Var, Operand] = dict(zip(jaxpr.invars, operands, strict=True))
    known |= {var: builder.constant(array) for var, array in zip(jaxpr.constvars, constants, strict=True)}

    def read(atom: Any) -> Operand:
        if not isinstance(atom, Literal):
            return known[atom]
        aval: Any = atom.aval
        return builder.constant(np.asarray(atom.val, aval.dtype))

    for equation in jaxpr.eqns:
        results = _lower(builder, equation, [read(atom) for atom in equation.invars], rules)
        known |= dict(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _lower(
    builder: Builder, equation: JaxprEqn, operands: Sequence[Operand], rules: dict[str, Lower]
) -> Sequence[Operand]:
    name, parameters = equation.primitive.name, equation.params
    if name == "scan":
        return _unroll(builder, parameters, operands, rules)
    inner = next((parameters[key] for key in INLINED if key in parameters), None)
    if inner is not None and name not in ("while", "cond"):
        return _inline(builder, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), operands, rules)
    outputs: list[Any] = [var.aval for var in equation.outvars]
    if all(operand.value is not None for operand in operands):
        size, taken = (sum(math.prod(a.shape) for a in arrays) for arrays in (outputs, operands))
        if size <= max(taken, LARGEST_FOLDED):
            values = equation.primitive.bind(*(jnp.asarray(operand.value) for operand in operands), **parameters)
            return [builder.constant(value) for value in (values if equation.primitive.multiple_results else [values])]
    if name not in rules:
        raise Unsupported(name)
    return rules[name](builder, parameters, operands, outputs)


def _unroll(
    builder: Builder, parameters: dict[str, Any], operands: Sequence[Operand], rules: dict[str, Lower]
) -> list[Operand]:
    """Append the instructions of all iterations of ``lax.scan``."""
    length, shared, carried = parameters["length"], parameters["num_consts"], parameters["num_carry"]
    if length > LONGEST_LOOP:
        raise Unsupported(f"scan of {length} iterations")
    body: ClosedJaxpr = parameters["jaxpr"]
    constants, carry, rows = operands[:shared], list(operands[shared : shared + carried]), operands[shared + carried :]
    order = range(length)[::-1] if parameters["reverse"] else range(length)
    collected: list[list[Operand]] = [[] for _ in body.jaxpr.outvars[carried:]]

    def row(operand: Operand, index: int) -> Operand:
        if operand.value is not None:
            return builder.constant(operand.value[index])
        size = math.prod(operand.shape[1:])
        inner = operand.shape[1:]
        return builder.emit("view", [operand], inner, operand.dtype, offset=index * size, strides=strides(inner))

    for index in order:
        given = [*constants, *carry, *(row(operand, index) for operand in rows)]
        results = _inline(builder, body.jaxpr, body.consts, given, rules)
        carry = results[:carried]
        for parts, part in zip(collected, results[carried:], strict=True):
            parts.append(part)
    stacked = []
    for parts in collected:
        parts = parts[::-1] if parameters["reverse"] else parts
        shape = (length, *parts[0].shape)
        stacked.append(builder.emit("concatenate", parts, shape, parts[0].dtype, outer=1))
    return [*carry, *stacked]


def strides(shape: Sequence[int]) -> list[int]:
    """Return how far apart neighbours along each axis of a row-major array are.

    Example:
      >>> strides((2, 3, 4))
      [12, 4, 1]
    """
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _without_unused(program: Program) -> Program:
    """Leave out instructions and constants that the result does not need."""
    needed, kept = {program.result}, []
    for instruction in reversed(program.instructions):
        if instruction.result in needed:
            needed |= set(instruction.takes)
            kept.append(instruction)
    constants = {number: array for number, array in program.constants.items() if number in needed}
    return program._replace(constants=constants, instructions=kept[::-1])
