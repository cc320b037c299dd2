"""Series: curves with bands in place of images, and how surprising each step is.

Axes: n series, k draws, t time, c channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vaex.core import Distribution
from vaex.ops.log_sum_exp import log_sum_exp
from vaex.plots.records import Curves

SHOWN, CHANNELS = 3, 2  # series of a figure, and channels of each
EDGES = (0.05, 0.95)  # quantiles between which a band lies
BAND = "mean, 5% to 95%"


def band_panels(
    x: ArrayLike, mean: ArrayLike, draws: ArrayLike | None = None, *, start: int = 0, title: str = "Series"
) -> list[Curves]:
    """Return a panel for each of some series and channels: what was observed, and what a model says of it, with a band.

    Args:
      x: observed series, [n, t, c]; NaN is a gap.
      mean: of the model from step ``start`` on, [n, t - start, c].
      draws: of p(x|z), [k, n, t - start, c], whose 5% and 95% quantiles are the band's edges.
      start: first step of which the model speaks.
      title: of the first panel.
    Raises: ValueError where shapes differ.
    Example:
      >>> panels = band_panels(np.zeros((4, 9, 1)), np.zeros((4, 3, 1)), np.zeros((5, 4, 3, 1)), start=6)
      >>> len(panels), sorted(panels[0].lines)
      (3, ['mean, 5% to 95%', 'observed'])
    """
    x, mean = np.asarray(x, np.float64), np.asarray(mean, np.float64)
    if x.ndim != 3 or mean.shape != (len(x), x.shape[1] - start, x.shape[2]):
        raise ValueError(
            f"band_panels: x has shape {x.shape} and mean {mean.shape}, expected [n, t, c] and [n, t - {start}, c]"
        )
    edges = None if draws is None else np.quantile(np.asarray(draws, np.float64), EDGES, axis=0)
    panels = []
    for index in range(min(SHOWN, len(x))):
        for channel in range(min(CHANNELS, x.shape[2])):
            lines = {"observed": x[index, :, channel], BAND: _after(mean[index, :, channel], start)}
            bands = {}
            if edges is not None:
                lower, upper = (_after(edge[index, :, channel], start) for edge in edges)
                bands = {BAND: (lower, upper)}
            where = f"channel {channel} of {x.shape[2]}" if x.shape[2] > 1 else "value"
            heading = title if not panels else ""
            panels.append(Curves(np.arange(x.shape[1]), lines, "step", where, heading, bands))
    return panels


def line_panels(groups: Sequence[tuple[str, Sequence[str], ArrayLike]], *, title: str = "") -> list[Curves]:
    """Return a panel for each group of series, which shows the first channel of each as a line.

    Args:
      groups: heading, names [m] and series [m, t, c] of each panel.
      title: before the heading of the first panel.
    Example:
      >>> [panel.title for panel in line_panels([("z0", ("-1", "1"), np.zeros((2, 5, 3)))], title="Traversals")]
      ['Traversals: z0']
    """
    panels = []
    for heading, names, series in groups:
        values = np.asarray(series, np.float64)
        lines = {name: line[:, 0] for name, line in zip(names, values, strict=True)}
        named = f"{title}: {heading}" if title and not panels else heading
        y_label = f"channel 0 of {values.shape[2]}" if values.shape[2] > 1 else "value"
        panels.append(Curves(np.arange(values.shape[1]), lines, "step", y_label, named))
    return panels


def _after(values: np.ndarray, start: int) -> np.ndarray:
    """Return values with gaps for the steps before ``start``."""
    return np.concatenate([np.full(start, np.nan), values])


def by_step(px: Distribution) -> Distribution:
    """Return a distribution over series as one over steps: the axis of time becomes a batch axis.

    Raises: ValueError for a distribution whose elements are not independent.
    Example:
      >>> from vaex.distributions import Normal
      >>> by_step(Normal(jnp.zeros((4, 9, 2)), jnp.ones((4, 9, 2)), event_ndims=2)).batch_shape
      (4, 9)
    """
    name = next((name for name in ("event_ndims", "ndims") if hasattr(px, name)), None)
    if name is None or not dataclasses.is_dataclass(px) or getattr(px, name) != 2:
        raise ValueError(
            f"by_step: {type(px).__name__} has no independent steps; use a likelihood such as gaussian or bernoulli"
        )
    return dataclasses.replace(px, **{name: 1})  # type: ignore[type-var]


def step_scores(px: Distribution, x: jax.Array) -> jax.Array:
    r"""Return how surprising each step is: :math:`-\log \frac1K \sum_k p(x_t|z_k)`, [b, t] nats; 0 where nothing is observed.

    Args:
      px: p(x|z) at draws from the posterior, of batch shape [k, b] and events [t, c].
      x: series, [b, t, c].
    """
    log_px = by_step(px).log_prob(x)
    return jnp.log(float(log_px.shape[0])) - log_sum_exp(log_px, axis=0)
