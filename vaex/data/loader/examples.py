"""Examples that users give in Python, checked against what the training data looked like, and as a model reads them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.data.spec import Spec
from vaex.data.transforms import intensities

ROUNDING = 1e-6  # floats this far beyond [0, 1] are taken for its ends


def checked(spec: Spec, caller: str, x: ArrayLike, *, any_length: bool = False) -> np.ndarray:
    """x as float32, or as uint8 level indices where it holds integers of data with levels; its channel axis added.

    ``any_length``: x holds sequences [b, t, ...] of any t >= 1.
    """
    array, shape, levels = np.asarray(x), spec.shape, spec.levels
    if any_length and array.ndim > 1:
        shape = (max(1, array.shape[1]), *shape[1:])
    if array.shape[1:] != shape and (*array.shape[1:], 1) == shape:
        array = array[..., None]
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        wanted = ", ".join(["t", *map(str, shape[1:])] if any_length else map(str, shape))
        wanted = f"[b, {wanted}] like the training data"
        raise ValueError(f"{caller}: x has shape {array.shape}, expected {wanted}; reshape it, one example is x[None]")
    if array.dtype.kind in "iu" and spec.kind != "real":
        if levels is None:
            raise ValueError(
                f"{caller}: x holds integers, but {spec.name} continuous values; give floats in [0, 1], such as x / 255"
            )
        if array.min(initial=0) < 0 or array.max(initial=0) >= levels:
            raise ValueError(
                f"{caller}: x holds integers from {array.min()} to {array.max()}, expected levels 0 to {levels - 1}; "
                "or give floats in [0, 1]"
            )
        return array.astype(np.uint8)
    if array.dtype.kind not in "biu" and not jnp.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{caller}: x has dtype {array.dtype}, expected floats, integers or bools; convert it")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        wrong = int(np.sum(~np.isfinite(array)))
        raise ValueError(f"{caller}: x holds {wrong} NaN or infinite values; clean them first")
    if spec.kind == "real":
        return array
    if array.min(initial=0) < -ROUNDING or array.max(initial=0) > 1 + ROUNDING:
        raise ValueError(
            f"{caller}: x holds floats from {array.min():g} to {array.max():g}, expected [0, 1]; divide 8-bit values by 255"
        )
    return np.clip(array, 0.0, 1.0)


def model_inputs(spec: Spec, caller: str, x: ArrayLike, *, any_length: bool = False) -> jax.Array:
    """Model inputs of x without randomness: the same for levels and for their floats in [0, 1]."""
    array = checked(spec, caller, x, any_length=any_length)
    if array.dtype == np.uint8 or spec.levels is None:
        return intensities(spec._replace(shape=array.shape[1:]), array)
    if spec.binarize == "threshold":
        return jnp.asarray(array > 0.5, jnp.float32)
    if spec.dequantize == "uniform":
        return jnp.asarray((array * (spec.levels - 1) + 0.5) / spec.levels)
    return jnp.asarray(array)


def stored(spec: Spec, caller: str, x: ArrayLike) -> np.ndarray:
    """x as the data set stores it: level indices where the data has levels."""
    array = checked(spec, caller, x)
    if spec.levels is None or array.dtype == np.uint8:
        return array
    scaled = array * (spec.levels - 1)
    if np.abs(scaled - np.round(scaled)).max(initial=0.0) > 1e-2:
        raise ValueError(
            f"{caller}: x holds floats between the data's {spec.levels} levels k/{spec.levels - 1}; a "
            "likelihood is defined at the levels: round first, or give integers"
        )
    return np.round(scaled).astype(np.uint8)
