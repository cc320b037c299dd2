"""Checks of what a user passes to a trained model beside examples: keys, labels, codes, a temperature."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from vaex.core import Labels, Latents, PyTree


def check_key(caller: str, key: object) -> None:
    """Raise ValueError for what is no key of jax's random numbers, such as a seed."""
    shape, dtype = getattr(key, "shape", None), getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == ()) and not (shape in ((2,), (4,)) and dtype == jnp.uint32):
        given = " ".join(repr(key).split())
        raise ValueError(
            f"{caller}: key is {given:.60}, expected a key, which says which random numbers are drawn: jax.random.key(0)"
        )


def labels_of(
    reads: Labels | None,
    caller: str,
    labels: ArrayLike | None,
    n: int,
    *,
    inferred: bool = False,
    optional: bool = False,
) -> dict[str, jax.Array]:
    """Return the labels of n examples as a part of a batch.

    Args:
      reads: what the model reads; None where it reads no labels.
      caller: name of the method, for errors.
      labels: integers, [n] or one for all, or conditions, [n, m] or [m] for all; or None.
      n: number of examples.
      inferred: whether missing labels are allowed for a model with a classifier.
      optional: whether missing labels are allowed for a model whose prior alone reads them.
    """
    if reads is None:
        if labels is not None:
            raise ValueError(f"{caller}: this model reads no labels; leave them out")
        return {}
    inferred = inferred and reads.classify is not None
    if labels is None:
        if inferred or (optional and reads.prior_only):
            return {}
        raise ValueError(f"{caller}: this model needs labels, {_expected(reads, n)}")
    array = labels if isinstance(labels, Tracer) else np.asarray(labels)
    if reads.conditions:
        return _conditions(reads.conditions, caller, array, n)
    if array.dtype.kind not in "iu" or array.shape not in ((), (n,)):
        raise ValueError(
            f"{caller}: labels have dtype {array.dtype} and shape {array.shape}, expected integers [{n}], or one for all"
        )
    least = -1 if inferred or reads.classify is None else 0
    if isinstance(array, Tracer):
        return {"y": jnp.broadcast_to(array.astype(jnp.int32), (n,))}
    if array.min(initial=least) < least or array.max(initial=least) >= reads.classes:
        unknown = f", or {least} for unlabelled" if least else ""
        raise ValueError(
            f"{caller}: labels go from {array.min()} to {array.max()}, expected 0 to {reads.classes - 1}{unknown}"
        )
    return {"y": jnp.broadcast_to(jnp.asarray(array, jnp.int32), (n,))}


def _expected(reads: Labels, n: int) -> str:
    if reads.conditions:
        return f"numbers [{n}, {reads.conditions}], or [{reads.conditions}] for all, the conditions in the data's order"
    return f"integers from 0 to {reads.classes - 1}, one for each example"


def _conditions(width: int, caller: str, array: np.ndarray | Tracer, n: int) -> dict[str, jax.Array]:
    """Return conditions [n, width], float32."""
    if array.dtype.kind not in "biuf" or array.shape not in ((width,), (n, width)):
        raise ValueError(
            f"{caller}: conditions have dtype {array.dtype} and shape {array.shape}, expected numbers [{n}, {width}], "
            f"or [{width}] for all"
        )
    if not isinstance(array, Tracer) and not np.isfinite(array).all():
        raise ValueError(f"{caller}: conditions have NaN or infinity; give finite numbers")
    return {"y": jnp.broadcast_to(jnp.asarray(array, jnp.float32), (n, width))}


def holds_integers(latents: Sequence[Latents]) -> bool:
    """Return True if codes are integers."""
    return any(block.kind == "code" for block in latents)


def check_codes(latents: Sequence[Latents], z: jax.Array) -> None:
    """Raise ValueError where the model's codes are integers and z holds other values; traced z is checked by dtype alone."""
    if not holds_integers(latents):
        return
    if not jnp.issubdtype(z.dtype, jnp.integer):
        raise ValueError(f"decode: z has dtype {z.dtype}, expected integers, such as encode(x).mean; codes are counted")
    classes = np.concatenate([np.full(block.size, block.classes) for block in latents])
    least = np.concatenate([np.full(block.size, -1 if block.partial else 0) for block in latents])
    if isinstance(z, Tracer):
        return
    codes = np.asarray(z).reshape(-1, len(classes))
    if np.any((codes < least) | (codes >= classes)):
        left_out = ", or -1 for what is left out" if least.min() else ""
        raise ValueError(
            f"decode: z holds integers from {codes.min()} to {codes.max()}, expected codes 0 to {classes.max() - 1}{left_out}"
        )


def at_temperature(hparams: PyTree, temperature: float | None) -> PyTree:
    """Return the hyperparameters with this temperature of samples, or unchanged for None."""
    if temperature is None:
        return hparams
    if not hasattr(hparams, "sample_temperature"):
        raise ValueError("sample: this model's samples have no temperature; leave it out")
    if not 1e-3 <= temperature < math.inf:
        raise ValueError(f"sample: temperature={temperature}, expected at least 0.001, and finite")
    return dataclasses.replace(hparams, sample_temperature=jnp.asarray(temperature, jnp.float32))
