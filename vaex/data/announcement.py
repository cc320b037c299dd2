"""What is said of the data before training: how it is read, what is done to its values, the likelihood, and what will not fit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vaex.data import conditions
from vaex.data.columns import REALS, summary
from vaex.data.measure import NEARLY_BINARY, Measures, measure
from vaex.data.spec import Dataset, Spec

NAMED = 6  # columns or pixels that a warning names
DIGITS = 100  # steps of float32 in a standard deviation, below which a column is coarse
FAR = 30.0  # times the unit: scales and means beyond it are reached slowly or not at all


class Choices(NamedTuple):
    """Choices of a run that the lines before training tell.

    Attributes:
      layout: as given; None where examples are not a user's arrays, which have one layout only.
      likelihood: as given, perhaps "auto"; None for a model that has no such option.
      title: the likelihood's name in reports, or "".
      per_pixel: whether each value of an example has a scale.
    """

    layout: str | None
    likelihood: str | None
    title: str
    per_pixel: bool = False


def lines(dataset: Dataset, spec: Spec, choices: Choices) -> list[str]:
    """Return the lines that stand before training: how the data is read and what becomes of its values, then the likelihood.

    Each choice stands with the flag that changes it. Warnings follow.

    Args:
      dataset: as loaded.
      spec: of the data, with its treatment resolved.
      choices: of the run.
    """
    measures = measure(spec, dataset.splits["train"]["x"])
    count = dataset.num_training_examples
    size = f"{count:,} training examples" if count else "batches of training examples"
    labels = dataset.splits["train"].get("y")
    classes = () if spec.conditions else unused_classes(spec, labels)
    warnings = [
        *constant(spec, measures, per_pixel=choices.per_pixel),
        *scales(spec, measures),
        *classes,
        *skipped(spec),
    ]
    return [
        f"data: {size}; {arrangement(spec, choices.layout)}; {values(spec, measures)}",
        *([f"columns: {summary(spec.columns)} (--columns=NAME:TYPE reads them otherwise)"] if spec.columns else []),
        *(
            [f"conditions: {conditions.summary(spec.conditions)} (y; --model=conditional_vae reads it)"]
            if spec.conditions
            else []
        ),
        *([f"likelihood: {choices.title}{because(spec, choices.likelihood)}"] if choices.title else []),
        *(f"warning: {text}" for text in warnings),
    ]


def arrangement(spec: Spec, layout: str | None) -> str:
    """Say how the axes of examples are read, and of a user's arrays, how to have them read otherwise."""
    shape = spec.shape
    if spec.columns:
        return f"rows of {shape[0]} columns"
    channels = f"{shape[-1]} channel{'s' * (shape[-1] > 1)}{', the last of them opacity' * spec.alpha}"
    if len(shape) == 1:
        text = f"vectors of {shape[0]} values"
    elif len(shape) == 2:
        text = f"series of {shape[0]} steps, {channels}"
    elif spec.volume:
        text = f"volumes {shape[0]}x{shape[1]}x{shape[2]} (depth x height x width), {channels}"
    else:
        *frames, height, width, _ = shape
        text = f"{height}x{width} (height x width), {channels}"
        text = f"sequences of {frames[0]} frames, {text}" if frames else f"images {text}"
    if layout is None or (layout == "auto" and len(shape) == 1):
        return text
    if layout != "auto":
        return f"{text} (--layout={layout})"
    others = "--kind=series or table reads" if shape[-1] == 1 else "--layout=chw, --kind=volume or table reads"
    return f"{text} ({others} them otherwise)"


def values(spec: Spec, measures: Measures) -> str:
    """Say what values the data has, and what becomes of them."""
    low, high = measures.low, measures.high
    missing = f", {measures.missing:.1%} of them missing" if spec.missing else ""
    if spec.kind == "real":
        if spec.columns:
            return f"{measures.missing:.1%} of the entries missing" if spec.missing else "no entry missing"
        noun = "columns" if len(spec.shape) == 1 else "channels"
        in_units = f", in units of {spec.unit:g}" if spec.unit != 1 else ""
        scaled = f"; {noun} standardised (--standardize=none keeps them)" if spec.location else in_units
        return f"real numbers from {low:.4g} to {high:.4g}{missing}{scaled}"
    if spec.kind == "binary":
        stored = f"0 or 1{missing}"
    elif spec.levels is None:
        stored = f"continuous from {low:.4g} to {high:.4g} in [0, 1]{_measurements(spec)}"
    else:
        top = spec.levels - 1
        kind = "counts" if spec.counts else "levels"
        stored = f"{kind} {round(low * top)} to {round(high * top)} of 0 to {top}, divided by {top}"
    if spec.value_range:
        stored += ", where {:g} to {:g} became 0 to 1, values beyond clipped (--value_range)".format(*spec.value_range)
    return f"{stored}; {treatment(spec)}"


def _measurements(spec: Spec) -> str:
    return " (--value_range=real reads measurements)" if len(spec.shape) < 3 else ""


def skipped(spec: Spec) -> list[str]:
    """Name files that cannot be read and were left out."""
    if not spec.skipped:
        return []
    more = f" and {len(spec.skipped) - NAMED} more" if len(spec.skipped) > NAMED else ""
    return [
        f"{len(spec.skipped)} files cannot be read and are left out: {', '.join(spec.skipped[:NAMED])}{more} "
        "(--skip_unreadable; config.json names all)"
    ]


def unused_classes(spec: Spec, labels: np.ndarray | None) -> list[str]:
    """Warn of labels that seem to count from another number than 0."""
    known = np.unique(labels[labels >= 0]) if labels is not None else np.zeros(0, int)
    if not known.size or known[0] == 0 or len(known) < known[-1] - known[0] + 1:
        return []
    return [
        f"labels are {known[0]} to {known[-1]}: no example is of class 0; where classes count from {known[0]}, say "
        f"--first_label={known[0]}"
    ]


def treatment(spec: Spec) -> str:
    """Say what is done to the values, with its reason where it is a measured default, and its flag."""
    noise = spec.binarization_noise
    measured = (
        "" if noise is None else f", {noise:.2f} of whose variance is noise (nearly binary: at most {NEARLY_BINARY:g})"
    )
    if spec.binarize == "dynamic":
        return f"each drawn as 0 or 1 at every step{measured} (--binarize=none keeps them)"
    if spec.binarize == "threshold":
        return "0 up to one half, else 1 (--binarize=none keeps them)"
    if spec.dequantize != "none":
        return f"with {spec.dequantize} noise within a level (--dequantize=none leaves it out)"
    images = spec.kind == "grey" and len(spec.shape) > 1
    return "not binarised (--binarize=dynamic)" if images else "as they are"


def because(spec: Spec, likelihood: str | None) -> str:
    """Say why the likelihood is what it is, with the flag that changes it."""
    if likelihood is None:
        return ""
    if not isinstance(likelihood, str):
        return " (likelihood=)"
    if likelihood != "auto":
        return f" (--likelihood={likelihood})"
    if spec.columns:
        kind = "tables"
    elif spec.dequantize != "none":
        kind = "dequantised levels"
    elif spec.kind == "binary" or spec.binarize != "none":
        kind = "0 and 1"
    else:
        kind = "continuous values" if spec.levels is None else "counts" if spec.counts else "levels"
    return f", the default for {kind} (--likelihood)"


def constant(spec: Spec, measures: Measures, *, per_pixel: bool) -> list[str]:
    """Warn of values that are the same in all examples where a density of a scale each would reward them."""
    where = np.argwhere(measures.deviation == 0)
    if spec.columns:
        where = where[np.array([spec.columns[at].type in REALS for at in where[:, 0]], bool)]
    if not len(where) or not (per_pixel or spec.kind == "real"):
        return []
    remedy = "leave them out" if len(spec.shape) == 1 else "crop them, or use --likelihood_scale=global"
    return [
        f"{len(where)} of {math.prod(spec.shape)} values are the same in all {measures.examples:,} examples measured: "
        f"{_named(spec, where)}. Each adds to the density what its least scale allows, and nothing to a code; {remedy}"
    ]


def scales(spec: Spec, measures: Measures) -> list[str]:
    """Warn of columns of real numbers whose spread or mean is far from the unit in which the likelihood works.

    Of standardised columns, warn of those that float32 cannot hold apart.
    """
    if spec.kind != "real":
        return []
    if spec.location or spec.columns:
        coarse = np.argwhere(np.abs(measures.mean) * np.finfo(np.float32).eps > measures.deviation / DIGITS)
        coarse = coarse[(measures.deviation > 0)[tuple(coarse.T)]]
        if spec.columns:
            coarse = coarse[np.array([spec.columns[at].type in ("gaussian", "student_t") for at in coarse[:, 0]], bool)]
        lost = f"the mean of {_named(spec, coarse)} is so far from 0 that float32 holds fewer than {DIGITS} steps of a"
        return [f"{lost} standard deviation; subtract a number near the mean first"] if len(coarse) else []
    spread, varies = measures.deviation / spec.unit, measures.deviation > 0
    far = np.argwhere(varies & ((spread > FAR) | (spread < 1 / FAR)))
    shifted = np.argwhere(np.abs(measures.mean) / spec.unit > FAR * np.maximum(1.0, spread))
    texts = []
    if len(far):
        low, high = measures.deviation[varies].min(), measures.deviation[varies].max()
        texts.append(
            f"standard deviations of columns reach from {low:.3g} to {high:.3g}; {_named(spec, far)} lie{'s' * (len(far) == 1)} "
            f"far from the unit {spec.unit:g} in which the likelihood starts; standardise the columns"
        )
    if len(shifted):
        texts.append(
            f"the mean of {_named(spec, shifted)} is more than {FAR:g} times the spread from 0; standardise the columns"
        )
    if spec.unit != 1 and not texts:
        texts.append(
            f"columns spread about {spec.unit:g}, in units of which networks and likelihood work; densities are those of the data "
            "as given. Standardise the columns to choose the unit yourself"
        )
    return texts


def _named(spec: Spec, where: np.ndarray) -> str:
    """Name columns, or pixels as (row, column), counted from 0."""
    noun = "column" if len(spec.shape) == 1 else "pixel"
    places = [
        spec.columns[at[0]].name
        if spec.columns
        else str(at[0])
        if len(at) == 1
        else f"({', '.join(map(str, at[:-1] if spec.shape[-1] == 1 else at))})"
        for at in where[:NAMED]
    ]
    more = f" and {len(where) - NAMED} more" if len(where) > NAMED else ""
    return f"{noun}{'s' * (len(where) > 1)} {', '.join(places)}{more}"
