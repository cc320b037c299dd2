"""Instructions of the page's interpreter for the primitives of jax.

Few instructions serve many primitives: "view" copies along strides (transpose, broadcast, slice, reverse), "matmul" takes
[b, m, k] and [b, k, n], "convolve" [n, d, h, w, c] and [d, h, w, c, c'], "reduce" the last of two axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vaex.page.program import Builder, Lower, Operand, Unsupported, strides

UNARY = (
    *("neg", "exp", "exp2", "log", "log1p", "expm1", "tanh", "logistic", "sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "asinh", "acosh", "atanh", "sqrt", "rsqrt", "cbrt", "abs", "sign", "floor", "ceil", "square"),
    *("is_finite", "erf", "erfc"),
)
BINARY = ("add", "sub", "mul", "div", "rem", "max", "min", "pow", "atan2", "eq", "ne", "lt", "le", "gt", "ge")
LOGICAL = {"and": "min", "or": "max", "xor": "ne"}  # of booleans, which are 0 and 1
SAME = ("copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision")
REDUCTIONS = {
    "reduce_sum": "sum",
    "reduce_max": "max",
    "reduce_min": "min",
    "reduce_prod": "prod",
    "reduce_and": "min",
    "reduce_or": "max",
    "argmax": "argmax",
}
Parameters = dict[str, Any]


def _unary(name: str) -> Lower:
    def lower(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
        return [builder.emit("unary", operands, outputs[0].shape, outputs[0].dtype, function=name)]

    return lower


def _binary(name: str) -> Lower:
    def lower(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
        function, dtype = name, np.dtype(outputs[0].dtype)
        if name in LOGICAL:
            if dtype != np.bool_:
                raise Unsupported(f"{name} of integers")
            function = LOGICAL[name]
        if name == "div" and dtype.kind in "iu":
            function = "integer_div"
        shape = outputs[0].shape
        return [builder.emit("binary", _stretched(builder, operands, shape), shape, dtype, function=function)]

    return lower


def _stretched(builder: Builder, operands: Sequence[Operand], shape: Sequence[int]) -> list[Operand]:
    """Return operands with axes of one entry repeated; single values stay, which the interpreter repeats."""
    return [
        operand
        if operand.shape == tuple(shape) or math.prod(operand.shape) == 1
        else viewed(
            builder,
            operand,
            shape,
            [step if size > 1 else 0 for size, step in zip(operand.shape, strides(operand.shape), strict=True)],
        )
        for operand in operands
    ]


def _same(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    return operands


def _reshape(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    order = parameters["dimensions"]
    moved = operands[0] if order is None else transposed(builder, operands[0], order)
    return [reshaped(builder, moved, outputs[0].shape)]


def _with_axes(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    return [reshaped(builder, operands[0], outputs[0].shape)]


def reshaped(builder: Builder, operand: Operand, shape: Sequence[int]) -> Operand:
    """Return an operand with other axes, without a copy."""
    if tuple(shape) == operand.shape:
        return operand
    if operand.value is not None:
        return builder.constant(operand.value.reshape(shape))
    return builder.emit("reshape", [operand], shape, operand.dtype)


def viewed(builder: Builder, operand: Operand, shape: Sequence[int], steps: Sequence[int], offset: int = 0) -> Operand:
    """Return the values of an operand at ``offset`` + index times ``steps``."""
    return builder.emit("view", [operand], shape, operand.dtype, offset=int(offset), strides=[int(s) for s in steps])


def transposed(builder: Builder, operand: Operand, order: Sequence[int]) -> Operand:
    """Return an operand with its axes in another order."""
    if list(order) == list(range(len(order))):
        return operand
    if operand.value is not None:
        return builder.constant(operand.value.transpose(order))
    steps = strides(operand.shape)
    return viewed(builder, operand, [operand.shape[axis] for axis in order], [steps[axis] for axis in order])


def _transpose(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    return [transposed(builder, operands[0], parameters["permutation"])]


def _broadcast(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    (operand, *_), shape = operands, outputs[0].shape
    steps = [0] * len(shape)
    for axis, size, step in zip(parameters["broadcast_dimensions"], operand.shape, strides(operand.shape), strict=True):
        steps[axis] = step if size > 1 else 0
    return [viewed(builder, operand, shape, steps)]


def _slice(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    steps = strides(operands[0].shape)
    offset = sum(start * step for start, step in zip(parameters["start_indices"], steps, strict=True))
    taken = parameters["strides"] or (1,) * len(steps)
    return [viewed(builder, operands[0], outputs[0].shape, [a * b for a, b in zip(steps, taken, strict=True)], offset)]


def _split(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    steps, axis = strides(operands[0].shape), parameters["axis"]
    starts = np.cumsum([0, *parameters["sizes"]])
    return [
        viewed(builder, operands[0], output.shape, steps, start * steps[axis])
        for output, start in zip(outputs, starts, strict=False)
    ]


def _reverse(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    steps, offset = strides(operands[0].shape), 0
    for axis in parameters["dimensions"]:
        offset += (operands[0].shape[axis] - 1) * steps[axis]
        steps[axis] = -steps[axis]
    return [viewed(builder, operands[0], outputs[0].shape, steps, offset)]


def _pad(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    low = [axis[0] for axis in parameters["padding_config"]]
    between = [axis[2] + 1 for axis in parameters["padding_config"]]
    return [builder.emit("pad", operands, outputs[0].shape, outputs[0].dtype, low=low, steps=between)]


def _concatenate(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    outer = math.prod(outputs[0].shape[: parameters["dimension"]])
    return [builder.emit("concatenate", operands, outputs[0].shape, outputs[0].dtype, outer=outer)]


def _stack(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    return _concatenate(builder, {"dimension": parameters["axis"]}, operands, outputs)


def _iota(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    shape, axis = outputs[0].shape, parameters["dimension"]
    line = builder.constant(np.arange(shape[axis], dtype=np.float32))
    return [viewed(builder, line, shape, [int(a == axis) for a in range(len(shape))])]


def _convert(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    before, after = operands[0].dtype, np.dtype(outputs[0].dtype)
    if after == np.bool_ and before != np.bool_:
        return [builder.emit("unary", operands, outputs[0].shape, after, function="is_nonzero")]
    if after.kind in "iu" and before.kind not in "iub":
        return [builder.emit("unary", operands, outputs[0].shape, after, function="trunc")]
    return [operands[0]._replace(dtype=after, value=None)]  # also bfloat16, whose arithmetic is float32 here


def _not(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    if operands[0].dtype != np.bool_:
        raise Unsupported("not of integers")
    return [builder.emit("unary", operands, outputs[0].shape, np.bool_, function="not")]


def _integer_pow(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    exponent = builder.constant(np.float32(parameters["y"]))
    return [builder.emit("binary", [*operands, exponent], outputs[0].shape, operands[0].dtype, function="pow")]


def _round(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    function = "round_to_even" if int(parameters["rounding_method"]) == 1 else "round_away"
    return [builder.emit("unary", operands, outputs[0].shape, operands[0].dtype, function=function)]


def _select(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    if len(operands) != 3:
        raise Unsupported("select of more than two")
    shape = outputs[0].shape
    return [builder.emit("select", _stretched(builder, operands, shape), shape, outputs[0].dtype)]


def _clamp(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    low, value, high = _stretched(builder, operands, outputs[0].shape)
    shape, dtype = outputs[0].shape, outputs[0].dtype
    above = builder.emit("binary", [low, value], shape, dtype, function="max")
    return [builder.emit("binary", [above, high], shape, dtype, function="min")]


def _reduce(name: str) -> Lower:
    def lower(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
        (operand, *_), axes = operands, tuple(parameters["axes"])
        kept = [axis for axis in range(len(operand.shape)) if axis not in axes]
        moved = transposed(builder, operand, [*kept, *axes])
        length = math.prod(operand.shape[axis] for axis in axes)
        return [
            builder.emit("reduce", [moved], outputs[0].shape, outputs[0].dtype, kind=REDUCTIONS[name], length=length)
        ]

    return lower


def _dot(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    ((left_summed, right_summed), (left_batch, right_batch)) = parameters["dimension_numbers"]
    left, right = operands

    def free(operand: Operand, summed: Sequence[int], batch: Sequence[int]) -> list[int]:
        return [axis for axis in range(len(operand.shape)) if axis not in (*summed, *batch)]

    left_free, right_free = free(left, left_summed, left_batch), free(right, right_summed, right_batch)

    def size(operand: Operand, axes: Sequence[int]) -> int:
        return math.prod(operand.shape[axis] for axis in axes)

    b, k = size(left, left_batch), size(left, left_summed)
    m, n = size(left, left_free), size(right, right_free)
    first = reshaped(builder, transposed(builder, left, [*left_batch, *left_free, *left_summed]), (b, m, k))
    second = reshaped(builder, transposed(builder, right, [*right_batch, *right_summed, *right_free]), (b, k, n))
    product = builder.emit("matmul", [first, second], (b, m, n), outputs[0].dtype)
    return [reshaped(builder, product, outputs[0].shape)]


def _convolve(builder: Builder, parameters: Parameters, operands: Sequence[Operand], outputs: Sequence[Any]):
    if parameters["feature_group_count"] != 1 or parameters["batch_group_count"] != 1:
        raise Unsupported("convolution of groups of channels")
    numbers = parameters["dimension_numbers"]
    spatial = len(numbers.lhs_spec) - 2
    if spatial > 3:
        raise Unsupported(f"convolution over {spatial} axes")
    (batch, channel, *places), (out, into, *taps) = numbers.lhs_spec, numbers.rhs_spec
    image = transposed(builder, operands[0], [batch, *places, channel])
    kernel = transposed(builder, operands[1], [*taps, into, out])
    missing = (1,) * (3 - spatial)
    image = reshaped(builder, image, (image.shape[0], *missing, *image.shape[1:]))
    kernel = reshaped(builder, kernel, (*missing, *kernel.shape))
    result_axes = [numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1]]
    shape = [outputs[0].shape[axis] for axis in result_axes]
    convolved = builder.emit(
        "convolve",
        [image, kernel],
        (shape[0], *missing, *shape[1:]),
        outputs[0].dtype,
        strides=[*missing, *parameters["window_strides"]],
        low=[*(0 for _ in missing), *(low for low, _ in parameters["padding"])],
        image_dilation=[*missing, *parameters["lhs_dilation"]],
        kernel_dilation=[*missing, *parameters["rhs_dilation"]],
    )
    return [transposed(builder, reshaped(builder, convolved, shape), [result_axes.index(a) for a in range(len(shape))])]


RULES: dict[str, Lower] = {
    **{name: _unary(name) for name in UNARY},
    **{name: _binary(name) for name in (*BINARY, *LOGICAL)},
    "add_any": _binary("add"),
    **dict.fromkeys(SAME, _same),
    "reshape": _reshape,
    "squeeze": _with_axes,
    "expand_dims": _with_axes,
    **{name: _reduce(name) for name in REDUCTIONS},
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "split": _split,
    "rev": _reverse,
    "pad": _pad,
    "concatenate": _concatenate,
    "stack": _stack,
    "iota": _iota,
    "convert_element_type": _convert,
    "not": _not,
    "integer_pow": _integer_pow,
    "round": _round,
    "select_n": _select,
    "clamp": _clamp,
    "dot_general": _dot,
    "conv_general_dilated": _convolve,
}
