"""Measures of a data set's training examples, from which defaults and warnings follow: how binary, how wide, what is constant."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vaex.data.spec import Dataset, Spec

MOST_VALUES = 1 << 22  # that are measured, which takes some 50 ms
MOST_SORTED = 1 << 18  # of which the most common value is counted
REPEATED = 0.1  # share of one value above which a density of continuous values could gather on it
FEWEST_EXAMPLES = 100  # however large each is
UPPER, MOST_UPPER = 0.75, 0.1  # of counts: few lie in the upper quarter of their range
LEAST_DISPERSION = 0.7  # of counts: variance over mean, which is 1 for Poisson variables
NEARLY_BINARY = 0.3  # largest ``Spec.binarization_noise`` of images that are binarised by default


class Measures(NamedTuple):
    """Statistics of training examples, in units of the model's inputs: [0, 1], or the data's own for kind "real".

    ``examples``: how many were measured, evenly spread over the training split. ``low``, ``high``: least and largest value.
    ``mean``, ``deviation``: of each value of an example, [*shape] float64; the deviation of a value that is always the same is 0.
    ``repeated``: share of the most common value among all. ``upper``: share of values above three quarters of the largest.
    ``missing``: share of entries that are NaN, which the others leave out.

    Example:
      >>> measures = measure(Spec("t", (2,), "real"), np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
      >>> measures.mean.tolist(), measures.deviation.tolist()
      ([2.0, 5.0], [1.0, 0.0])
    """

    examples: int
    low: float
    high: float
    mean: np.ndarray
    deviation: np.ndarray
    repeated: float = 0.0
    upper: float = 0.0
    missing: float = 0.0


def measure(spec: Spec, x: np.ndarray) -> Measures:
    """Measure examples evenly spread over a split: all of them up to 4 million values, at least 100 otherwise.

    Args:
      spec: of the data.
      x: stored values [n, *spec.shape], n >= 1; an array or ``MappedRows``.
    """
    size = math.prod(spec.shape)
    count = min(len(x), max(FEWEST_EXAMPLES, MOST_VALUES // size))
    rows = np.linspace(0, len(x) - 1, count).round().astype(np.int64)
    top = 1 if spec.levels is None else spec.levels - 1
    shift = _first_observed(x, rows) / top  # no digits are lost far from 0, and constant values give exactly 0
    total, squares, observed = np.zeros(spec.shape), np.zeros(spec.shape), np.zeros(spec.shape)
    low, high = np.inf, -np.inf
    step = max(1, MOST_VALUES // 16 // size)
    for start in range(0, count, step):
        stored = x[rows[start : start + step]]
        known = stored[~np.isnan(stored)] if spec.missing else stored
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
        values = stored.astype(np.float64) / top - shift
        total += np.nansum(values, 0)
        squares += np.nansum(np.square(values), 0)
        observed += np.sum(~np.isnan(values), 0)
    mean = total / np.maximum(observed, 1)
    variance = np.maximum(squares / np.maximum(observed, 1) - np.square(mean), 0.0)
    distinct, counts = np.unique(x[rows[:: -(-count * size // MOST_SORTED)]], return_counts=True)
    repeated, upper = (float(part / counts.sum()) for part in (counts.max(), counts[distinct > UPPER * high].sum()))
    missing = 1.0 - float(observed.sum()) / (count * size)
    return Measures(count, low / top, high / top, mean + shift, np.sqrt(variance), repeated, upper, missing)


def _first_observed(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the first row among ``rows`` of each value, float64, or of those that are NaN there, the next that are not."""
    first = np.asarray(x[rows[:1]], np.float64)[0]
    for row in rows[1:]:
        gaps = np.isnan(first)
        if not gaps.any():
            break
        first = np.where(gaps, np.asarray(x[row : row + 1], np.float64)[0], first)
    return np.nan_to_num(first)


def binarization_noise(measures: Measures) -> float:
    r"""Share of the variance of dynamically binarised values that the drawing adds; in [0, 1].

    :math:`E[p (1 - p)] / (E[p] (1 - E[p]))` over all values p in [0, 1] that vary: 0 where each is 0 or 1, so that nothing is
    lost, and 1 where all are equal, so that a draw tells nothing. MNIST has 0.17, Omniglot (28x28) 0.26, digits (8x8) 0.34,
    Fashion-MNIST 0.39 and faces (Frey) 0.87. A share of values near 0 or 1 would not do: dark images have only such values and
    are destroyed all the same.

    Example:
      >>> from vaex.data.spec import Spec
      >>> measures = measure(Spec("g", (2,), "grey"), np.array([[0.0, 0.4], [1.0, 0.6]], np.float32))
      >>> round(binarization_noise(measures), 3)
      0.48
    """
    first, second = _moments(measures)
    return max(0.0, first - second) / (first * (1.0 - first)) if 0.0 < first < 1.0 else 0.0


def least_scale(measures: Measures) -> float:
    """Least scale of a density with a scale per pixel: half the deviation of the values that vary, where one is frequent.

    A density can gather on a value that repeats exactly, such as the black of a background, without limit; nothing but the
    background is then learned. Where the most common value makes up at most ``REPEATED`` of all, there is no such value: 0.

    Example:
      >>> least_scale(Measures(9, 0.0, 1.0, np.zeros(1), np.full(1, 0.2), repeated=0.8))
      0.1
    """
    first, second = _moments(measures)
    return 0.5 * math.sqrt(max(0.0, second - first**2)) if measures.repeated > REPEATED else 0.0


def _moments(measures: Measures) -> tuple[float, float]:
    """Return the mean of all values, and of their squares; constant ones are left out, so that a border changes nothing."""
    varies = measures.deviation > 0
    varies = varies if varies.any() else np.ones_like(varies)
    mean, deviation = measures.mean[varies], measures.deviation[varies]
    return float(np.mean(mean)), float(np.mean(np.square(deviation) + np.square(mean)))


def are_counts(spec: Spec, measures: Measures) -> bool:
    """Return whether vectors of levels look like counts: from 0, without a natural largest, at least as dispersed as such.

    At most a tenth of the values lie above three quarters of the largest, and the mean variance of the columns is at least 0.7
    of their mean. Bytes that use all 256 levels, grades and pixels with a white that is frequent are none.

    Example:
      >>> spec, draws = Spec("t", (4,), "grey", levels=16), np.random.default_rng(0)
      >>> [are_counts(spec, measure(spec, x)) for x in (draws.poisson(4.0, (200, 4)), draws.integers(0, 16, (200, 4)))]
      [True, False]
    """
    if len(spec.shape) > 1 or spec.kind != "grey" or spec.levels in (None, 2, 256) or measures.low > 0:
        return False
    mean, variance = np.mean(measures.mean), np.mean(np.square(measures.deviation))
    dispersed = variance * (spec.levels - 1) >= LEAST_DISPERSION * mean > 0
    return bool(dispersed and measures.upper <= MOST_UPPER)


def unit(measures: Measures) -> float:
    """Power of ten that is nearest to the geometric mean of the values' standard deviations, constant ones left out; else 1.

    Example:
      >>> unit(Measures(9, -4.0, 3e4, np.zeros(2), np.array([1.2, 2e4])))
      100.0
    """
    spread = measures.deviation[measures.deviation > 0]
    return 10.0 ** round(float(np.mean(np.log10(spread)))) if spread.size else 1.0


def columns(measures: Measures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return location and scale of each column of real vectors: its mean, and its standard deviation, or 1 where that is 0.

    Of series [t, c], whose measures are of each step, the moments of a channel are those of all its steps that vary.

    The scale keeps three digits, the location a thousandth of the scale, so that they are the same on every machine.

    Example:
      >>> columns(Measures(9, 0.0, 7.0, np.array([1234.56789, 7.0]), np.array([12.3456, 0.0])))
      ((1234.5633, 7.0), (12.3, 1.0))
    """
    location, scale = [], []
    means, deviations = measures.mean, measures.deviation
    if means.ndim == 2:
        varies = (deviations > 0) | ~np.any(deviations > 0, axis=0)
        means = np.mean(measures.mean, axis=0, where=varies)
        squares = np.square(deviations) + np.square(measures.mean - means)
        deviations = np.sqrt(np.mean(squares, axis=0, where=varies))
    for mean, deviation in zip(means.tolist(), deviations.tolist(), strict=True):
        spread = float(f"{deviation:.3g}") if deviation > 0 else 1.0
        location.append(float(f"{round(mean / spread, 3) * spread:.9g}") if deviation > 0 else mean)
        scale.append(spread)
    return tuple(location), tuple(scale)


def described(dataset: Dataset) -> Spec:
    """Return the spec of a data set with what is measured of its training examples.

    Grey and colour values have ``binarization_noise``, ``least_scale`` and ``counts``, vectors of levels ``typical_total``, real
    numbers ``unit``, and real vectors and series ``location`` and ``scale``; three digits are kept, so that they are the same on
    every machine.
    """
    spec, x = dataset.spec, dataset.splits["train"]["x"]
    if spec.kind == "binary" or spec.columns or not len(x):
        return spec
    measures = measure(spec, x)
    if spec.kind == "real":
        location, scale = columns(measures) if len(spec.shape) < 3 else ((), ())
        return spec._replace(unit=unit(measures), location=location, scale=scale)
    noise, least = (round(value, 3) for value in (binarization_noise(measures), least_scale(measures)))
    total = typical_total(spec, x) if len(spec.shape) == 1 and spec.levels is not None else 0.0
    counts = are_counts(spec, measures)
    return spec._replace(binarization_noise=noise, least_scale=least, counts=counts, typical_total=total)


def typical_total(spec: Spec, x: np.ndarray) -> float:
    """Return the geometric mean of the totals of vectors of counts, 0 read as 1, with three digits.

    Example:
      >>> typical_total(Spec("t", (2,), "grey", levels=90), np.array([[1, 9], [50, 40]], np.uint8))
      30.0
    """
    count = min(len(x), max(FEWEST_EXAMPLES, MOST_VALUES // math.prod(spec.shape)))
    rows = np.linspace(0, len(x) - 1, count).round().astype(np.int64)
    step = max(1, MOST_VALUES // 16 // math.prod(spec.shape))
    totals = [x[rows[start : start + step]].sum(axis=1, dtype=np.float64) for start in range(0, count, step)]
    return float(f"{np.exp(np.mean(np.log(np.maximum(np.concatenate(totals), 1.0)))):.3g}")


def nearly_binary(spec: Spec) -> bool:
    """Return whether grey images, or sequences of them, lose so little by dynamic binarisation that it is the default.

    Their ``binarization_noise`` is at most ``NEARLY_BINARY``. Vectors, colour and data that was never measured are not.

    Example:
      >>> mnist = Spec("mnist", (28, 28, 1), "grey", levels=256, binarization_noise=0.164)
      >>> nearly_binary(mnist), nearly_binary(mnist._replace(shape=(784,)))
      (True, False)
    """
    noise = spec.binarization_noise
    return spec.kind == "grey" and len(spec.shape) >= 3 and noise is not None and noise <= NEARLY_BINARY
