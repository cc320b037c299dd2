"""Growth of a cost: exponents on logarithmic scales, and the range in which the cost is linear."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SLACK = 0.15  # how far an exponent between neighbours may be from 1 and still be called linear


class Fit(NamedTuple):
    """Fit of cost ~ value ** exponent by least squares of logarithms; the standard error is NaN below 3 points."""

    exponent: float
    standard_error: float


def fit(values: Sequence[float], costs: Sequence[float]) -> Fit:
    """Fit the exponent over all points.

    Raises: ValueError for fewer than two values, or any that is not positive.
    Example:
      >>> fit([1, 2, 4], [3.0, 12.0, 48.0])
      Fit(exponent=2.0, standard_error=0.0)
    """
    x, y = _logarithms(values, costs)
    centred = x - x.mean()
    exponent = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - exponent * centred
    freedom = len(x) - 2
    error = math.sqrt(float(residual @ residual) / freedom / float(centred @ centred)) if freedom else math.nan
    return Fit(round(exponent, 12), round(error, 12))


def local(values: Sequence[float], costs: Sequence[float]) -> list[float]:
    """Return the exponent between each pair of neighbours.

    Example:
      >>> local([1, 2, 4], [1.0, 1.0, 2.0])
      [0.0, 1.0]
    """
    x, y = _logarithms(values, costs)
    return [float(slope) for slope in np.diff(y) / np.diff(x)]


def linearity(values: Sequence[float], costs: Sequence[float]) -> str:
    """Describe over which values the cost is linear, and where it grows more slowly or faster.

    Example:
      >>> linearity([1, 2, 4, 8, 16], [1.0, 1.1, 2.2, 4.4, 14.0])
      'slower than linear from 1 to 2, linear from 2 to 8, faster than linear from 8 to 16'
    """
    pieces: list[list] = []
    for index, slope in enumerate(local(values, costs)):
        kind = "linear" if abs(slope - 1) <= SLACK else "slower than linear" if slope < 1 else "faster than linear"
        if pieces and pieces[-1][0] == kind:
            pieces[-1][2] = values[index + 1]
        else:
            pieces.append([kind, values[index], values[index + 1]])
    return ", ".join(f"{kind} from {first:g} to {last:g}" for kind, first, last in pieces)


def _logarithms(values: Sequence[float], costs: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    if len(values) != len(costs) or len(values) < 2 or min(*values, *costs) <= 0 or len(set(values)) < len(values):
        raise ValueError(
            f"exponents: values {values} and costs {costs}; expected two or more of each, positive, values apart"
        )
    return np.log(np.asarray(values, float)), np.log(np.asarray(costs, float))
