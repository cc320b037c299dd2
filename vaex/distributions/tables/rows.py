"""Rows of a table: independent columns of several families, of which some entries may be missing."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from vaex.distributions.family import BaseDistribution, family, static
from vaex.distributions.protocol import Distribution
from vaex.distributions.tables.codes import CategoricalCodes
from vaex.distributions.tables.student import LogNormal
from vaex.ops.arrays import lift, sum_trailing


@family
class Rows(BaseDistribution):
    r"""Independent columns, given in parts of one family each; entries that are NaN are missing: log p(x_observed).

    Args:
      parts: distributions of scalars, each of batch shape [*batch, number of its columns].
      columns: of each part, the places of its columns in a row.
    Raises: ValueError unless parts hold scalars, and columns are 0, 1, ..., d - 1 in some order.
    Example:
      >>> from vaex.distributions import Bernoulli, Normal
      >>> rows = Rows((Normal(jnp.zeros(1), 1.0, event_ndims=0), Bernoulli(jnp.zeros(1), 0)), ((1,), (0,)))
      >>> print(f"{rows.log_prob(jnp.array([1.0, 0.0])):.3f}, {rows.log_prob(jnp.array([jnp.nan, 0.0])):.3f}")
      -1.612, -0.919

    References: Nazabal, Olmos, Ghahramani & Valera 2020, Handling incomplete heterogeneous data using VAEs, section 2.
    """

    parts: tuple[Distribution, ...]
    columns: tuple[tuple[int, ...], ...] = static()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch axes of the parts: all but their last axis."""
        places = sorted(place for columns in self.columns for place in columns)
        events = [tuple(part.event_shape) for part in self.parts]
        if places != list(range(len(places))) or any(events) or len(self.parts) != len(self.columns):
            raise ValueError(
                f"Rows: columns are {self.columns} and events of shapes {events}, expected each place once and scalars; give "
                "event_ndims=0"
            )
        return tuple(self.parts[0].batch_shape)[:-1]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The number of columns."""
        return (sum(map(len, self.columns)),)

    def _row(self, entries: list[jax.Array]) -> jax.Array:
        """Put the entries of the parts, [..., columns], in the order of a row."""
        order = np.argsort(np.concatenate(self.columns))
        shape = jnp.broadcast_shapes(*(entry.shape[:-1] for entry in entries))
        spread = [jnp.broadcast_to(entry, (*shape, entry.shape[-1])) for entry in lift(*entries)]
        return jnp.concatenate(spread, axis=-1)[..., order]

    @property
    def mean(self) -> jax.Array:
        """Expected value of each column; of categories without an order, the most probable code."""
        return self._row([cast(jax.Array, part.mean) for part in self.parts])

    @property
    def variance(self) -> jax.Array:
        """Variance of each column; of categories without an order, p (1 - p) of the most probable code."""
        return self._row([cast(jax.Array, part.variance) for part in self.parts])

    @property
    def probabilities(self) -> dict[tuple[int, ...], jax.Array]:
        """Columns of categories without an order -> probabilities of their codes, [*batch, columns, k]."""
        pairs = zip(self.columns, self.parts, strict=True)
        return {
            columns: part.probabilities
            for columns, part in pairs
            if isinstance(part, CategoricalCodes) and not part.ordered
        }

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        leading = shape[: len(shape) - len(self.batch_shape) - 1]
        keys = jax.random.split(key, len(self.parts))
        return self._row([part.sample(each, leading) for each, part in zip(keys, self.parts, strict=True)])

    def _log_prob(self, value: jax.Array) -> jax.Array:
        total = []
        for columns, part in zip(self.columns, self.parts, strict=True):
            entries = value[..., np.array(columns)]
            observed = ~jnp.isnan(entries)
            # in the support, where no gradient overflows
            center = part.median if isinstance(part, LogNormal) else part.mean
            center = jax.lax.stop_gradient(cast(jax.Array, center))
            log_prob = part.log_prob(jnp.where(observed, entries, center))
            total.append(sum_trailing(jnp.where(observed, log_prob, 0.0), 1))
        return sum(total[1:], total[0])
