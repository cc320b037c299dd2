"""What a page holds of a trained model: its decoder, latents, a few examples, samples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex.core import Distribution, PyTree, Recipe, Variables
from vaex.data.spec import Spec
from vaex.data.transforms import intensities
from vaex.errors import UserError
from vaex.evaluation.latents import (
    LatentVariable,
    kl_per_latent,
    latent_variables,
    location_and_scale,
    order_by_kl,
)
from vaex.page.primitives import RULES
from vaex.page.program import Program, Unsupported, compile_program

SLIDERS = 24  # most latents that have one
TABULATED_SLIDERS, TABULATED_POINTS = 16, 17  # latents of a table, and points on each
TABULATED_PAIRS = 6  # examples with paths between them
PATH_POINTS, PLANE_POINTS = 9, 13  # on a path between two examples; on a side of the plane of two latents
DRAWN_SAMPLES = 32
PLANE_EXAMPLES = 400  # whose codes are marked on the plane
HALF_PRECISION_ERROR = 2e-4  # of a decoded value, up to which weights are stored as float16


class Shown(Protocol):
    """What a page shows: a ``vaex.api.trained_model.TrainedModel``."""

    recipe: Recipe
    spec: Spec
    variables: Variables
    hparams: PyTree
    step: int
    latent_shape: tuple[int, ...]
    described: dict[str, Any]

    def encode(self, x: ArrayLike, labels: ArrayLike | None = None) -> Distribution:
        """Return q(z|x)."""
        ...

    def sample(self, key: jax.Array, n: int) -> jax.Array:
        """Return means of p(x|z) at z of the prior."""
        ...


class Decoder(NamedTuple):
    """The decoder as a page runs it: a program, or where an operation is not known to the page, a table.

    Attributes:
      call: codes [n, d] and labels [n] -> the mean of p(x|z), [n, *shape], by vaex.
      program: None where the page has a table.
      weights: dtype in which the program's constants are stored.
      missing: name of the operation that the page lacks.
    """

    call: Callable[[np.ndarray, np.ndarray | None], np.ndarray]
    program: Program | None
    weights: str = "float32"
    missing: str = ""


class Codes(NamedTuple):
    """Posteriors of examples, flat: ``mean`` and ``variance`` [n, d]; ``labels`` [n], or None."""

    mean: np.ndarray
    variance: np.ndarray
    labels: np.ndarray | None


def reads_labels(model: Shown) -> bool:
    """Return True if the decoder takes labels."""
    return model.recipe.labels is not None and not model.recipe.labels.prior_only


def encoded(model: Shown, x: np.ndarray, y: np.ndarray | None) -> Codes:
    """Return the codes of stored examples.

    Raises: UserError for a model whose codes are integers.
    """
    if any(block.kind == "code" for block in model.recipe.latents):
        raise UserError(
            "page: this model's codes are integers, which no slider moves; choose a model with real latents"
        )
    if model.recipe.labels is not None and model.recipe.labels.conditions:
        raise UserError("page: this model reads conditions, for which a page has no controls; see run.figures()")
    posterior = model.encode(x, y if reads_labels(model) else None)
    mean = np.asarray(posterior.mean, np.float32).reshape(len(x), -1)
    try:
        variance = np.asarray(posterior.variance, np.float32).reshape(len(x), -1)
    except (AttributeError, NotImplementedError):
        variance = np.zeros_like(mean)
    if not np.isfinite(mean).all():
        raise UserError("page: the encoder gives NaN or infinity; the model has diverged")
    return Codes(mean, variance, y)


def decoder_of(model: Shown, codes: Codes) -> Decoder:
    """Return the decoder; whether its weights fit float16 is decided at ``codes``, and at codes twice as far out."""
    recipe, variables, hparams = model.recipe, model.variables, model.hparams
    labelled = reads_labels(model)

    def decode(z: jax.Array, *labels: jax.Array) -> jax.Array:
        batch = {"y": labels[0]} if labelled else {}
        return recipe.model.decode(variables, hparams, z, batch).mean.astype(jnp.float32)

    compiled = jax.jit(decode)

    def call(z: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        return np.asarray(compiled(jnp.asarray(z, jnp.float32), *([jnp.asarray(labels)] if labelled else [])))

    arguments = [jax.ShapeDtypeStruct((1, codes.mean.shape[1]), jnp.float32)]
    arguments += [jax.ShapeDtypeStruct((1,), jnp.int32)] if labelled else []
    try:
        program, rounded = compile_program(decode, *arguments, rules=RULES)
    except Unsupported as error:
        return Decoder(call, None, missing=str(error))
    half, full = (jax.jit(rounded(dtype)) for dtype in ("float16", "float32"))
    trial = np.concatenate([codes.mean[:32], 2.0 * codes.mean[:32]])[:, None]
    labels = [np.zeros(1, np.int32)] if labelled else []
    errors = [np.max(np.abs(np.asarray(half(z, *labels)) - np.asarray(full(z, *labels)))) for z in trial]
    fits = max(errors) <= HALF_PRECISION_ERROR  # False for NaN
    return Decoder(call, program, "float16" if fits else "float32")


def sliders(model: Shown, codes: Codes, kl: Sequence[float] | None) -> list[dict[str, Any]]:
    """Return the latent variables as the page's controls, the most informative first.

    Args:
      model: whose latents they are.
      codes: of examples.
      kl: nats of each variable, where they are known; else of these examples, or where there is no closed form, nothing is
        known and the order is that of the variances of the means.
    """
    variables = latent_variables(model.recipe.latents, codes.mean.shape[1])
    if kl is None or len(kl) != len(variables):
        kl_here = kl_per_latent(variables, codes.mean, codes.variance)
        kl = None if kl_here is None else kl_here.tolist()
    information = kl or [float(np.sum(np.var(variable.select(codes.mean), axis=0))) for variable in variables]
    controls: list[dict[str, Any]] = []
    for index in order_by_kl(information):
        controls += _controls(variables[index], codes, None if kl is None else float(kl[index]))
    return controls


def _controls(variable: LatentVariable, codes: Codes, kl: float | None) -> list[dict[str, Any]]:
    common = {"kind": variable.kind, "start": variable.start, "stop": variable.stop, "kl": kl}
    if variable.kind == "categorical":
        return [{**common, "name": variable.name, "low": 0, "high": variable.stop - variable.start - 1, "step": 1}]
    if variable.kind == "sphere":
        return [
            {**common, "name": f"sphere {at - variable.start}", "at": at, "low": -1.0, "high": 1.0, "step": 0.01}
            for at in range(variable.start, variable.stop)
        ]
    location, scale = location_and_scale(variable, codes.mean, codes.variance)
    means = variable.select(codes.mean)
    scale = max(scale, 1e-3)
    low, high = min(location - 3 * scale, float(means.min())), max(location + 3 * scale, float(means.max()))
    digits = 2 - math.floor(math.log10(high - low))
    low, high = math.floor(low * 10**digits) / 10**digits, math.ceil(high * 10**digits) / 10**digits
    return [
        {
            **common,
            "name": variable.name,
            "at": variable.start,
            "low": low,
            "high": high,
            "step": round(10.0**-digits, 9),
        }
    ]


def plane_of(controls: Sequence[dict[str, Any]]) -> list[int]:
    """Return positions of the two most informative numbers among the controls, [] where there are fewer."""
    numbers = [index for index, control in enumerate(controls) if control["kind"] in ("normal", "free")]
    return numbers[:2] if len(numbers) > 1 else []


def samples_in_page(model: Shown, decoder: Decoder) -> bool:
    """Return True if the page can draw from the prior: normal latents, categorical ones, directions."""
    kinds = {block.kind for block in model.recipe.latents} or {"normal"}
    return decoder.program is not None and kinds <= {"normal", "categorical", "sphere"} and model.recipe.labels is None


def tabulated(controls: list[dict[str, Any]], codes: Codes, plane: Sequence[int]) -> np.ndarray:
    """Return the codes [m, d] of a table: along each latent from the first example's, between examples, on the plane.

    Each control is left with as many steps as the table has points.
    """
    base = codes.mean[0].astype(np.float64)
    rows = [base[None]]
    for control in controls:
        values = np.arange(control["high"] + 1) if control["kind"] == "categorical" else _points(control)
        rows.append(np.stack([moved(base, control, value) for value in values]))
    for first, second in itertools.permutations(range(min(TABULATED_PAIRS, len(codes.mean))), 2):
        t = np.linspace(0.0, 1.0, PATH_POINTS)[:, None]
        rows.append((1 - t) * codes.mean[first] + t * codes.mean[second])
    if plane:
        first, second = (controls[index] for index in plane)
        values = [np.linspace(control["low"], control["high"], PLANE_POINTS) for control in (first, second)]
        rows += [moved(moved(base, first, a), second, b)[None] for a in values[0] for b in values[1]]
    return np.concatenate(rows).astype(np.float32)


def _points(control: dict[str, Any]) -> np.ndarray:
    control["step"] = (control["high"] - control["low"]) / (TABULATED_POINTS - 1)
    return control["low"] + control["step"] * np.arange(TABULATED_POINTS)


def moved(z: np.ndarray, control: dict[str, Any], value: float) -> np.ndarray:
    """Return a code [d] with one control at another value; the page's script does the same."""
    z = z.copy()
    block = slice(control["start"], control["stop"])
    if control["kind"] == "categorical":
        z[block] = np.arange(control["stop"] - control["start"]) == value
    else:
        z[control["at"]] = value
        if control["kind"] == "sphere":
            z[block] /= max(float(np.linalg.norm(z[block])), 1e-12)
    return z


def shown_range(spec: Spec, x: np.ndarray) -> tuple[float, float]:
    """Return the values that are drawn as black and white: 0 and 1, or of real numbers, those that examples reach."""
    if spec.kind != "real":
        return 0.0, 1.0
    low, high = float(np.min(x)), float(np.max(x))
    return low, high if high > low else low + 1.0


def originals(spec: Spec, x: np.ndarray) -> np.ndarray:
    """Return stored examples as they are drawn, float32 [n, *shape]."""
    return np.asarray(intensities(spec, x), np.float32)
