"""Examples that a user passes to a trained model: checked against the training data's Spec, then converted.

Traced examples, inside ``jax.jit``, ``vmap``, ``grad`` or ``jax.export``, are checked by shape and dtype alone; values that would
be refused become NaN.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from vaex.data.columns import check_codes, codes_of
from vaex.data.spec import Spec
from vaex.data.transforms import intensities

NEAR_LEVEL = 1e-2  # of the distance of levels: floats this near to one stand for it
ROUNDING = 1e-6  # floats this far outside [0, 1] are clipped


def checked_examples(spec: Spec, caller: str, x: ArrayLike, *, any_length: bool = False) -> np.ndarray:
    """Return x as float32, or as level indices (uint8, uint16) where it holds integers of data with levels; with its channels.

    Args:
      spec: of the training data.
      caller: named in errors.
      x: examples [b, *spec.shape]; the channel axis of one channel may be left out. Masked entries are missing ones. Rows of a
        table may also come as a mapping of columns, or a data frame.
      any_length: x holds sequences [b, t, ...] of any t >= 1.
    Raises: ValueError for another shape or dtype, or for values out of range.
    """
    array, levels = _shaped(spec, caller, _array(spec, caller, x), any_length=any_length), spec.levels
    if _holds_levels(spec, caller, array):
        assert levels is not None
        least = lowest_level(spec)
        if array.min(initial=least) < least or array.max(initial=least) >= least + levels:
            raise ValueError(
                f"{caller}: x holds integers from {array.min()} to {array.max()}, expected levels {least} to "
                f"{least + levels - 1}; or give floats in [0, 1]"
            )
        return (array.astype(np.int64) - least).astype(level_dtype(levels))
    array = array.astype(np.float32)
    refused = np.isinf(array) if spec.missing else ~np.isfinite(array)
    if refused.any():
        what = "infinite" if spec.missing else "NaN or infinite"
        raise ValueError(f"{caller}: x holds {int(refused.sum())} {what} values; replace them first")
    if spec.kind == "real":
        check_codes(caller, spec.columns, array)
        return array
    if array.min(initial=0) < -ROUNDING or array.max(initial=0) > 1 + ROUNDING:
        raise ValueError(
            f"{caller}: x holds floats from {array.min():g} to {array.max():g}, expected [0, 1]; divide 8-bit values by 255"
        )
    return np.clip(array, 0.0, 1.0)


def lowest_level(spec: Spec) -> int:
    """Return the integer that stands for level 0 in a user's examples.

    Example:
      >>> lowest_level(Spec("scans", (8, 8, 1), "grey", levels=2001, value_range=(-1000.0, 1000.0)))
      -1000
    """
    return (
        int(spec.value_range[0])
        if spec.value_range and spec.levels == spec.value_range[1] - spec.value_range[0] + 1
        else 0
    )


def level_dtype(levels: int) -> type[np.unsignedinteger]:
    """Return the dtype that holds level indices.

    Example:
      >>> level_dtype(256).__name__, level_dtype(4096).__name__
      ('uint8', 'uint16')
    """
    return np.uint8 if levels <= 256 else np.uint16


def _array(spec: Spec, caller: str, x: Any) -> np.ndarray:
    """Return what a user passes as an array: rows of a table as their codes, NaN for masked entries of vectors."""
    if spec.columns and hasattr(x, "items"):
        return codes_of(caller, spec.columns, dict(x.items()))
    if not np.ma.is_masked(x):
        return np.asarray(x)
    if not spec.missing:
        raise ValueError(f"{caller}: x has masked entries, but {spec.name} had none missing in training; fill them in")
    return np.ma.asarray(x, np.float32).filled(np.nan)


def _shaped(spec: Spec, caller: str, array: Any, *, any_length: bool) -> Any:
    """Return an array with its channel axis; ValueError where its shape is not that of examples."""
    shape = spec.shape
    if any_length and array.ndim > 1:
        shape = (max(1, array.shape[1]), *shape[1:])
    if array.shape[1:] != shape and (*array.shape[1:], 1) == shape:
        array = array[..., None]
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        axes = ", ".join(["t", *map(str, shape[1:])] if any_length else map(str, shape))
        raise ValueError(
            f"{caller}: x has shape {array.shape}, expected [b, {axes}] like the training data; reshape it, one example is "
            "x[None]"
        )
    return array


def _holds_levels(spec: Spec, caller: str, array: Any) -> bool:
    """Return True if an array holds level indices; ValueError for integers of data without levels, and for other dtypes."""
    if array.dtype.kind in "iu" and spec.kind != "real":
        if spec.levels is None:
            raise ValueError(
                f"{caller}: x holds integers, but {spec.name} continuous values; give floats in [0, 1], such as x / 255"
            )
        return True
    if array.dtype.kind not in "biu" and not jnp.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{caller}: x has dtype {array.dtype}, expected floats, integers or bools; convert it")
    return False


def _traced_floats(spec: Spec, caller: str, x: jax.Array, *, any_length: bool) -> tuple[jax.Array, jax.Array]:
    """Return traced examples as float32, levels as their share of the highest, and whether each value is a valid one."""
    array = _shaped(spec, caller, x, any_length=any_length)
    is_level = _holds_levels(spec, caller, array)
    array = array.astype(jnp.float32)
    if is_level and spec.levels is not None:
        array = (array - lowest_level(spec)) / (spec.levels - 1)
    if spec.kind == "real":
        return array, ~jnp.isinf(array) if spec.missing else jnp.isfinite(array)
    return array, (array >= -ROUNDING) & (array <= 1 + ROUNDING)


def model_inputs(spec: Spec, caller: str, x: ArrayLike, *, any_length: bool = False) -> jax.Array:
    """Return model inputs without randomness, the same for level indices and for these levels as floats in [0, 1].

    Arguments and errors are those of ``checked_examples``.
    """
    if isinstance(x, Tracer):
        floats, valid = _traced_floats(spec, caller, x, any_length=any_length)
        return jnp.where(valid, inputs_of_floats(spec, floats), jnp.float32(jnp.nan))
    array = checked_examples(spec, caller, x, any_length=any_length)
    if array.dtype.kind == "u" or spec.levels is None:
        return intensities(spec._replace(shape=array.shape[1:]), array)
    return jnp.asarray(inputs_of_floats(spec, array), jnp.float32)


def inputs_of_floats(spec: Spec, x: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Return model inputs of floats in [0, 1], or of real numbers, without randomness; x may be traced."""
    if spec.kind == "real":
        return x
    if spec.binarize == "threshold":
        return (x > 0.5).astype(np.float32)
    if spec.dequantize == "uniform" and spec.levels is not None:
        return (x.clip(0.0, 1.0) * (spec.levels - 1) + 0.5) / spec.levels
    return x.clip(0.0, 1.0)


def stored_values(spec: Spec, caller: str, x: ArrayLike) -> tuple[np.ndarray | jax.Array, jax.Array | None]:
    """Return x as the data set stores it, level indices where the data has levels, and whether each traced example is valid.

    Arguments and errors are those of ``checked_examples``. Examples that are not traced are valid: the second value is None.
    """
    if isinstance(x, Tracer):
        floats, valid = _traced_floats(spec, caller, x, any_length=False)
        axes = tuple(range(1, floats.ndim))
        if spec.levels is None:
            return floats, jnp.all(valid, axis=axes)
        scaled = floats * (spec.levels - 1)
        near = jnp.abs(scaled - jnp.round(scaled)) <= NEAR_LEVEL
        return jnp.round(scaled.clip(0, spec.levels - 1)).astype(level_dtype(spec.levels)), jnp.all(
            valid & near, axis=axes
        )
    array = checked_examples(spec, caller, x)
    if spec.levels is None or array.dtype.kind == "u":
        return array, None
    scaled = array * (spec.levels - 1)
    if np.abs(scaled - np.round(scaled)).max(initial=0.0) > NEAR_LEVEL:
        raise ValueError(
            f"{caller}: x holds floats between the data's {spec.levels} levels k/{spec.levels - 1}; a "
            "likelihood is defined at the levels: round first, or give integers"
        )
    return np.round(scaled).astype(level_dtype(spec.levels)), None
