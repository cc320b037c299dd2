"""Tables in models: what networks read of a row, and its likelihood, column by column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaex import distributions as dist
from vaex.core import PyTree
from vaex.data.columns import COUNTS, Column
from vaex.data.spec import Spec
from vaex.distributions.tables.codes import CategoricalCodes, ordinal_logits
from vaex.distributions.tables.rows import Rows
from vaex.distributions.tables.student import LogNormal, StudentT
from vaex.distributions.tables.zero_inflated import ZeroInflated
from vaex.models.likelihood import Likelihood
from vaex.nets.activations import soft_clip

SCALED = ("gaussian", "student_t", "log_normal", "negative_binomial", "zero_inflated_negative_binomial")
DISCRETE = (*COUNTS, "bernoulli", "categorical", "ordinal", "constant")
START_DF = 6.0  # of degrees of freedom above 2, where training starts
TINY = 1e-30  # below which log-normal entries are read as this
LEAST_RATE = 0.1  # where the rates of rare counts start


def column_inputs(spec: Spec, x: jax.Array) -> jax.Array:
    """Return what networks read of rows [..., d]: numbers standardised, categories one-hot, and what is observed.

    Real numbers, their logarithms where they are log-normal, log(1 + count), and codes of ordered categories are standardised by
    the column's location and scale. A value between two codes is read as a mixture of both. Where entries may be missing all that a
    column gives is then 0, and for each column a number follows that is 1 where it is observed.
    """
    numbers = [place for place, column in enumerate(spec.columns) if column.type not in ("categorical", "constant")]
    observed = ~jnp.isnan(x)
    parts = []
    if numbers:
        chosen = [spec.columns[place] for place in numbers]
        values = jnp.where(observed, x, 1.0)[..., np.array(numbers)]  # 1 has a logarithm
        logarithmic = np.array([column.type == "log_normal" for column in chosen])
        counted = np.array([column.type in COUNTS for column in chosen])
        # where a model moves x, as a learned pseudo-input, it may leave the support
        values = jnp.where(logarithmic, jnp.log(jnp.where(logarithmic, jnp.maximum(values, TINY), 1.0)), values)
        values = jnp.where(counted, jnp.log1p(jnp.where(counted, jnp.maximum(values, 0.0), 0.0)), values)
        location, scale = (
            np.array(of, np.float32) for of in zip(*((c.location, c.scale) for c in chosen), strict=True)
        )
        parts.append(jnp.where(observed[..., np.array(numbers)], (values - location) / scale, 0.0))
    for place, column in enumerate(spec.columns):
        if column.type == "categorical":
            codes = jnp.arange(len(column.categories), dtype=x.dtype)
            near = jnp.maximum(1.0 - jnp.abs(x[..., place, None] - codes), 0.0)
            parts.append(jnp.where(observed[..., place, None], near, 0.0))
    if spec.missing:
        parts.append(observed.astype(x.dtype))
    return jnp.concatenate(parts, axis=-1) if parts else jnp.zeros((*x.shape[:-1], 1), x.dtype)


def column_width(spec: Spec) -> int:
    """Return how many numbers networks read of a row."""
    widths = {"categorical": lambda column: len(column.categories), "constant": lambda column: 0}
    total = sum(widths.get(column.type, lambda column: 1)(column) for column in spec.columns)
    return max(1, total + (len(spec.columns) if spec.missing else 0))


class _Part(NamedTuple):
    """Columns of one family, and of as many categories, whose entries are computed together.

    ``places``: in a row. ``outputs``: of the decoder, [columns, number for each].
    """

    type: str
    categories: int
    places: tuple[int, ...]
    columns: tuple[Column, ...]
    outputs: np.ndarray

    @property
    def name(self) -> str:
        """Name of the part's parameters."""
        return f"{self.type}_{self.categories}" if self.categories else self.type


def _outputs(column: Column, per_pixel: bool) -> int:
    """Return how many outputs of the decoder a column takes."""
    if column.type in ("categorical", "constant"):
        return len(column.categories) if column.type == "categorical" else 0
    return 1 + column.type.startswith("zero_inflated") + (per_pixel and column.type in SCALED)


def _parts(columns: Sequence[Column], per_pixel: bool) -> list[_Part]:
    starts = np.cumsum([0, *(_outputs(column, per_pixel) for column in columns)])
    groups: dict[tuple[str, int], list[int]] = {}
    for place, column in enumerate(columns):
        groups.setdefault((column.type, _categories(column)), []).append(place)
    return [
        _Part(
            kind,
            categories,
            tuple(places),
            tuple(columns[place] for place in places),
            np.stack([np.arange(starts[place], starts[place + 1]) for place in places]),
        )
        for (kind, categories), places in groups.items()
    ]


def _categories(column: Column) -> int:
    return len(column.categories) if column.type in ("categorical", "ordinal", "constant") else 0


def by_column(spec: Spec, scale: str) -> Likelihood:
    """Return the likelihood of a table: independent columns, each of its own family; missing entries are marginalised.

    Real columns start at the standard deviation of the training rows, log-normal ones at that of their logarithms, counts at their
    rate. Densities are those of the table's own numbers.

    Args:
      spec: of a table.
      scale: of real columns and dispersions of negative binomials: one number for each column ("global", "per_column"), the
        hyperparameter sigma, in standard deviations ("fixed"), or an output of the decoder for each entry ("per_pixel").
    """
    parts = _parts(spec.columns, scale == "per_pixel")
    total = sum(part.outputs.size for part in parts)

    def init() -> dict[str, dict[str, jax.Array]]:
        start = {part.name: _init(part, learned=scale in ("global", "per_column")) for part in parts}
        return {name: params for name, params in start.items() if params}

    def distribution(params: PyTree, sigma: ArrayLike, raw: jax.Array) -> dist.Distribution:
        flat = raw.reshape(*raw.shape[:-2], -1)
        built = []
        for part in parts:
            learned = params.get(part.name, {})
            outputs = flat[..., part.outputs]
            if part.type not in SCALED:
                log_scale = None
            elif scale == "per_pixel":
                log_scale = soft_clip(outputs[..., -1])
            else:
                given = jnp.log(sigma) if scale == "fixed" else soft_clip(learned["log_scale"])
                log_scale = jnp.broadcast_to(given, outputs.shape[:-1])
            built.append(_distribution(part, learned, outputs, log_scale))
        return Rows(tuple(built), tuple(part.places for part in parts))

    scales = {"fixed": "fixed scales", "per_pixel": "scales that depend on z"}.get(scale, "a learned scale each")
    scaled = any(column.type in SCALED for column in spec.columns)
    kinds = ", ".join(dict.fromkeys(part.type.replace("_", " ") for part in parts))
    discrete = all(column.type in DISCRETE for column in spec.columns)
    title = f"by column ({kinds}){f', {scales}' if scaled else ''}"
    channels = max(1, math.ceil(total / len(spec.columns)))
    return Likelihood(title, channels, init, distribution, discrete=discrete)


def _init(part: _Part, *, learned: bool) -> dict[str, jax.Array]:
    """Return a part's own parameters."""
    count, params = len(part.places), {}
    if part.type in SCALED and learned:
        params["log_scale"] = jnp.zeros(count)
    if part.type == "student_t":
        params["log_df"] = jnp.full(count, math.log(START_DF))
    if part.type == "ordinal":
        shares = np.arange(1, part.categories) / part.categories
        cuts = np.log(shares / (1 - shares))
        params["first"] = jnp.full(count, cuts[0])
        params["log_gaps"] = jnp.broadcast_to(jnp.asarray(np.log(np.diff(cuts)), jnp.float32), (count, len(cuts) - 1))
    return params


def _distribution(
    part: _Part, params: dict[str, jax.Array], outputs: jax.Array, log_scale: jax.Array | None
) -> dist.Distribution:
    """Return the distribution of a part, of batch shape [..., columns], from its outputs [..., columns, number for each]."""
    location = np.array([column.location for column in part.columns], np.float32)
    scale = np.array([column.scale for column in part.columns], np.float32)
    if part.type == "constant":
        return CategoricalCodes(jnp.zeros((*outputs.shape[:-1], 1)), event_ndims=0)
    if part.type == "categorical":
        return CategoricalCodes(outputs, event_ndims=0)
    first = outputs[..., 0]
    if part.type == "bernoulli":
        return dist.Bernoulli(first, event_ndims=0)
    if part.type == "ordinal":
        gaps = jnp.exp(soft_clip(params["log_gaps"]))
        cuts = jnp.concatenate([params["first"][:, None], gaps], axis=-1)
        return CategoricalCodes(ordinal_logits(first, jnp.cumsum(cuts, axis=-1)), event_ndims=0, ordered=True)
    if part.type in COUNTS:
        rate = soft_clip(first, 12.0) + np.log(np.maximum(np.expm1(location), LEAST_RATE))
        if log_scale is None:
            counts = dist.Poisson(rate, event_ndims=0)
        else:  # the coefficient of variation of the rates, as of tables of counts alone
            counts = dist.NegativeBinomial(rate, 2.0 * log_scale, event_ndims=0)
        return (
            ZeroInflated(counts, outputs[..., 1] - 2.0, event_ndims=0)
            if part.type.startswith("zero_inflated")
            else counts
        )
    assert log_scale is not None
    mean, log_scale = scale * first + location, log_scale + np.log(scale)
    if part.type == "log_normal":
        return LogNormal(mean, log_scale=log_scale, event_ndims=0)
    if part.type == "student_t":
        df = jnp.broadcast_to(2.0 + jnp.exp(soft_clip(params["log_df"])), mean.shape)
        return StudentT(mean, log_scale=log_scale, df=df, event_ndims=0)
    return dist.Normal(mean, log_scale=log_scale, event_ndims=0)
