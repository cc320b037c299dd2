"""Encode, decode and sample of a trained model as functions of raw arrays, its parameters inside."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from vaex.core import Batch, Distribution, PyTree, Recipe, Variables
from vaex.data.loader.user_examples import ROUNDING, inputs_of_floats
from vaex.data.spec import Spec

WHAT = ("encode", "decode", "sample")
BATCH = "b"  # name of the batch axis


class Exportable(Protocol):
    """What is exported: a ``vaex.api.trained_model.TrainedModel``."""

    recipe: Recipe
    spec: Spec
    variables: Variables
    hparams: PyTree
    step: int
    latent_shape: tuple[int, ...]
    described: dict[str, Any]


class Value(NamedTuple):
    """An argument or a result of an exported function.

    Attributes:
      shape: its axes; "b" is the batch.
      dtype: NumPy's name.
      meaning: what it is, with its unit.
      stop: of integers, one more than the largest.
    """

    shape: tuple[int | str, ...]
    dtype: str
    meaning: str
    stop: int = 1


class Function(NamedTuple):
    """A function to export.

    Attributes:
      name: one of ``WHAT``.
      call: takes arrays in the order of ``takes`` and returns a dictionary of arrays.
      takes: argument -> its description.
      returns: result -> its description.
    """

    name: str
    call: Callable[..., dict[str, jax.Array]]
    takes: dict[str, Value]
    returns: dict[str, Value]

    def symbolic_arguments(self) -> list[Any]:
        """Return shapes and dtypes of the arguments for a batch of any size."""
        scope = export.SymbolicScope([f"{BATCH} >= 1"])
        shapes = [export.symbolic_shape(", ".join(map(str, value.shape)), scope=scope) for value in self.takes.values()]
        return [
            jax.ShapeDtypeStruct(shape, value.dtype) for shape, value in zip(shapes, self.takes.values(), strict=True)
        ]

    def arguments(self, noise: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        """Draw arguments for a batch of this size: floats from 0 to 1, and integers."""
        drawn = {}
        for name, value in self.takes.items():
            shape = tuple(size if axis == BATCH else int(axis) for axis in value.shape)
            array = noise.random(shape) if value.dtype == "float32" else noise.integers(0, value.stop, shape)
            drawn[name] = array.astype(value.dtype)
        return drawn


def functions(model: Exportable, what: Sequence[str] = WHAT) -> list[Function]:
    """Return these functions of a trained model, in units of its data; ``what`` holds names of ``WHAT``."""
    makers = {"encode": _encode, "decode": _decode, "sample": _sample}
    return [makers[name](model) for name in what]


def _encode(model: Exportable) -> Function:
    recipe, spec, variables, hparams = model.recipe, model.spec, model.variables, model.hparams
    key = jax.random.key(0)  # encoders that draw, draw the same each time, as in TrainedModel
    labelled = recipe.labels is not None and not recipe.labels.prior_only

    def posterior(batch: Batch) -> Distribution:
        return recipe.model.encode(key, variables, hparams, batch)

    def call(x: jax.Array, *labels: jax.Array) -> dict[str, jax.Array]:
        valid = _valid_labels(model, labels, least=-1)
        if spec.kind != "real":
            inside = (x >= -ROUNDING) & (x <= 1 + ROUNDING)
            valid.append(jnp.all(inside, axis=tuple(range(1, x.ndim))))
        encoded = posterior({"x": inputs_of_floats(spec, x), **({"y": labels[0]} if labelled else {})})
        results = {"mean": encoded.mean}
        if (variance := _variance(encoded)) is not None:
            results["standard_deviation"] = jnp.sqrt(variance)
        return _masked(results, valid)

    takes = {"x": _examples(spec, "NaN" if _classes_of_codes(recipe) is None else "codes of -1")}
    if labelled:
        takes["labels"] = _labels(model, inferred=True)
    returns = {
        "mean": _code(model, "mean of the posterior q(z|x)"),
        "standard_deviation": _code(model, "standard deviation of each entry of q(z|x)"),
    }
    shapes = jax.eval_shape(call, *(_example(value) for value in takes.values()))
    return Function("encode", call, takes, {name: returns[name] for name in shapes})


def _decode(model: Exportable) -> Function:
    recipe, variables, hparams = model.recipe, model.variables, model.hparams
    labelled = recipe.labels is not None and not recipe.labels.prior_only
    classes = _classes_of_codes(recipe)

    def call(z: jax.Array, *labels: jax.Array) -> dict[str, jax.Array]:
        valid = _valid_labels(model, labels, least=_least_given(recipe))
        if classes is not None:
            flat = z.reshape(z.shape[0], -1)
            least = -1 if any(block.partial for block in recipe.latents) else 0
            valid.append(jnp.all((flat >= least) & (flat < classes), axis=1))
        decoded = recipe.model.decode(variables, hparams, z, {"y": labels[0]} if labelled else {})
        return _masked({"mean": decoded.mean}, valid)

    takes = {"z": _code(model, "codes, such as encode's mean")}
    if labelled:
        takes["labels"] = _labels(model)
    return Function("decode", call, takes, {"mean": _mean(model.spec, "mean of the likelihood p(x|z)")})


def _sample(model: Exportable) -> Function:
    recipe, variables, hparams = model.recipe, model.variables, model.hparams

    def call(key: jax.Array, last: jax.Array) -> dict[str, jax.Array]:
        labels = None if recipe.labels is None else last
        valid = _valid_labels(model, () if labels is None else (labels,), least=_least_given(recipe))
        z_key, _ = jax.random.split(jax.random.wrap_key_data(key, impl="threefry2x32"))  # as TrainedModel.sample
        drawn = recipe.model.sample(z_key, variables, hparams, last.shape[0], labels)
        return _masked({"mean": drawn.mean}, valid)

    takes = {"key": Value((2,), "uint32", "[0, seed], or jax.random.key_data(key): which samples are drawn")}
    if recipe.labels is None:
        takes["slots"] = Value((BATCH,), "uint8", "any values: their number is the number of samples")
    else:
        takes["labels"] = _labels(model)
    return Function("sample", call, takes, {"mean": _mean(model.spec, "mean of p(x|z) at z of the prior")})


def _variance(distribution: Distribution) -> jax.Array | None:
    """Return the variance where one is known and is a number for each entry of the mean; codes have none."""
    if not jnp.issubdtype(distribution.mean.dtype, jnp.floating):
        return None
    try:
        variance = distribution.variance
    except (AttributeError, NotImplementedError):
        return None
    return variance if variance is not None and variance.shape == distribution.mean.shape else None


def _valid_labels(model: Exportable, labels: Sequence[jax.Array], *, least: int) -> list[jax.Array]:
    """Return whether each example's label, where there is one, lies between ``least`` and the last class."""
    if not labels or model.recipe.labels is None:
        return []
    if model.recipe.labels.conditions:
        return [jnp.all(jnp.isfinite(labels[0]), axis=1)]
    return [(labels[0] >= least) & (labels[0] < model.recipe.labels.classes)]


def _masked(results: dict[str, jax.Array], valid: Sequence[jax.Array]) -> dict[str, jax.Array]:
    """Return NaN, or -1 for integers, for examples with invalid input: a compiled program can raise no error."""
    if not valid:
        return results
    keep = functools.reduce(jnp.logical_and, valid)

    def masked(result: jax.Array) -> jax.Array:
        invalid = np.nan if jnp.issubdtype(result.dtype, jnp.floating) else -1
        return jnp.where(keep.reshape(-1, *(1,) * (result.ndim - 1)), result, jnp.asarray(invalid, result.dtype))

    return {name: masked(result) for name, result in results.items()}


def _least_given(recipe: Recipe) -> int:
    """The least label of decode and sample: -1 for unlabelled, where the model has no classifier that would infer it."""
    return -1 if recipe.labels is not None and recipe.labels.classify is None else 0


def _classes_of_codes(recipe: Recipe) -> np.ndarray | None:
    """The number of values of each entry of a code, [d]; None where codes are no integers."""
    if not any(block.kind == "code" for block in recipe.latents):
        return None
    return np.concatenate([np.full(block.size, block.classes) for block in recipe.latents])


def _unit(spec: Spec) -> str:
    if spec.kind == "real":
        return "in the unit of the data"
    if spec.levels is None or spec.kind == "binary":
        return "from 0 to 1"
    return f"from 0 to 1: level k of 0..{spec.levels - 1} is k / {spec.levels - 1}"


def _examples(spec: Spec, invalid: str) -> Value:
    outside = "" if spec.kind == "real" else f"; an example with a value outside gives {invalid}"
    return Value((BATCH, *spec.shape), "float32", f"examples, {_unit(spec)}{outside}")


def _mean(spec: Spec, meaning: str) -> Value:
    return Value((BATCH, *spec.shape), "float32", f"{meaning}, {_unit(spec)}")


def _code(model: Exportable, meaning: str) -> Value:
    classes = _classes_of_codes(model.recipe)
    if classes is None:
        return Value((BATCH, *model.latent_shape), "float32", meaning)
    most = int(classes.max())
    return Value((BATCH, *model.latent_shape), "int32", f"{meaning}: integers from 0 to {most - 1}", most)


def _labels(model: Exportable, *, inferred: bool = False) -> Value:
    reads = model.recipe.labels
    assert reads is not None
    if reads.conditions:
        names = ", ".join(condition.name for condition in model.spec.conditions)
        return Value((BATCH, reads.conditions), "float32", f"conditions, in the unit of the data: {names}")
    least = -1 if inferred else _least_given(model.recipe)
    unlabelled = ""
    if least:
        unlabelled = ", or -1 for unlabelled" if reads.classify is None else ", or -1 to infer the label"
    return Value((BATCH,), "int32", f"labels from 0 to {reads.classes - 1}{unlabelled}", reads.classes)


def _example(value: Value) -> jax.ShapeDtypeStruct:
    """The shape of one example."""
    return jax.ShapeDtypeStruct(tuple(1 if axis == BATCH else int(axis) for axis in value.shape), value.dtype)
