r"""Latents over time behind a deterministic state: :math:`p(z_t|h_t)`, :math:`q(z_t|h_t, x_t)`, :math:`h_{t+1} = f(h_t, z_t)`.

Axes: b batch, t time, d latent, r state. ``...`` are sample axes. A code is [t * d].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex import distributions, divergences
from vaex.core import PyTree
from vaex.distributions.family import BaseDistribution, family, static

Moments = tuple[jax.Array, jax.Array]  # means and log scales


class Cell(NamedTuple):
    """One step of time: ``start(shape) -> h`` [*shape, r], ``prior(h)`` and ``posterior(h, evidence)`` -> moments of z, and
    ``advance(h, z)``, the next h. ``evidence`` is what an encoder made of x_t."""

    start: Callable[[tuple[int, ...]], jax.Array]
    prior: Callable[[jax.Array], Moments]
    posterior: Callable[[jax.Array, jax.Array], Moments]
    advance: Callable[[jax.Array, jax.Array], jax.Array]


class Path(NamedTuple):
    """A way through time: ``z`` [..., t, d], the state before each h [..., t, r] and after the last ``end`` [..., r], and the
    moments of z_t given what comes before; ``posterior`` is None where there was no evidence."""

    z: jax.Array
    h: jax.Array
    end: jax.Array
    prior: Moments
    posterior: Moments | None

    def kl(self) -> jax.Array:
        """KL(q(z_t|h_t, x_t) || p(z_t|h_t)) of each step in closed form, [..., t] nats."""
        assert self.posterior is not None
        return divergences.gaussian_kl(*self.posterior, *self.prior)

    def log_p(self) -> jax.Array:
        """log p(z) of the whole path, [...] nats."""
        return _normal(self.prior).log_prob(self.z)

    def log_q(self) -> jax.Array:
        """log q(z|x) of the whole path, [...] nats."""
        assert self.posterior is not None
        return _normal(self.posterior).log_prob(self.z)


def _normal(moments: Moments) -> distributions.Normal:
    """The distribution of a whole path, given the moments of each of its steps."""
    mean, log_scale = moments
    return distributions.Normal(mean, log_scale=log_scale, event_ndims=2)


def draw_path(cell: Cell, noise: jax.Array, evidence: jax.Array | None = None, start: jax.Array | None = None) -> Path:
    """A path whose latents are drawn: of the posterior where there is evidence, else of the prior.

    Args:
      cell: one step.
      noise: standard normal, [..., t, d].
      evidence: [b, t, n], whose b are the last leading axes of the noise.
      start: the first state, [..., r]; by default the cell's own.
    """
    first = cell.start(noise.shape[:-2]) if start is None else start

    def step(
        h: jax.Array, now: tuple[jax.Array, jax.Array | None]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array, Moments]]:
        noise_now, evidence_now = now
        mean, log_scale = moments = cell.prior(h) if evidence_now is None else cell.posterior(h, evidence_now)
        z = mean + jnp.exp(log_scale) * noise_now
        return cell.advance(h, z), (z, h, moments)

    end, (z, h, posterior_moments) = jax.lax.scan(step, first, _time_first((noise, evidence)))
    z, h, posterior_moments = _time_last((z, h, posterior_moments))
    return (
        Path(z, h, end, posterior_moments, None)
        if evidence is None
        else Path(z, h, end, cell.prior(h), posterior_moments)
    )


def follow_path(cell: Cell, z: jax.Array, evidence: jax.Array | None = None) -> Path:
    """The path of given latents z [..., t, d]; only the state is computed one step after the other."""
    first = cell.start(z.shape[:-2])
    end, h = jax.lax.scan(lambda h, now: (cell.advance(h, now), h), first, _time_first(z))
    h = _time_last(h)
    return Path(z, h, end, cell.prior(h), None if evidence is None else cell.posterior(h, evidence))


def _time_first(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), tree)


def _time_last(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), tree)


class _Codes(BaseDistribution):
    """Codes [..., t * d] of paths; a subclass tells its cell and its evidence."""

    params: PyTree
    cell: Callable[[PyTree], Cell]
    size: tuple[int, int]

    @property
    def event_shape(self) -> tuple[int, ...]:
        """All latents of a sequence."""
        return (self.size[0] * self.size[1],)

    def _evidence(self) -> jax.Array | None:
        return None

    def path(self, noise: jax.Array) -> Path:
        """The path drawn by this noise [..., t * d]."""
        return draw_path(self.cell(self.params), noise.reshape(*noise.shape[:-1], *self.size), self._evidence())

    def _sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.path(jax.random.normal(key, shape)).z.reshape(shape)


@family
class PathPosterior(_Codes):
    """q(z|x), the product over time of q(z_t|h_t, x_t), of codes [b, t * d].

    Args:
      params: of the cell.
      evidence: [b, t, n].
      cell: params -> ``Cell``; static.
      size: (t, d); static.
    """

    params: PyTree
    evidence: jax.Array
    cell: Callable[[PyTree], Cell] = static()
    size: tuple[int, int] = static()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Batch shape of the examples."""
        return np.shape(self.evidence)[:-2]

    @property
    def mean(self) -> jax.Array:
        """Each step's mean, the steps before being at theirs, [b, t * d]."""
        return self.path(jnp.zeros(self.batch_shape + self.event_shape)).z.reshape(*self.batch_shape, -1)

    @property
    def variance(self) -> jax.Array:
        """Variance of each step, the steps before being at their means, [b, t * d]."""
        posterior_moments = self.path(jnp.zeros(self.batch_shape + self.event_shape)).posterior
        assert posterior_moments is not None
        return jnp.exp(2.0 * posterior_moments[1]).reshape(*self.batch_shape, -1)

    def _evidence(self) -> jax.Array:
        return self.evidence

    def _log_prob(self, value: jax.Array) -> jax.Array:
        z = value.reshape(*value.shape[:-1], *self.size)
        return follow_path(self.cell(self.params), z, self.evidence).log_q()


@family
class PathPrior(_Codes):
    """p(z), the product over time of p(z_t|h_t), of codes [t * d].

    Args:
      params: of the cell.
      cell: params -> ``Cell``; static.
      size: (t, d); static.
    """

    params: PyTree
    cell: Callable[[PyTree], Cell] = static()
    size: tuple[int, int] = static()

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Empty: codes are independent."""
        return ()

    def _log_prob(self, value: jax.Array) -> jax.Array:
        return follow_path(self.cell(self.params), value.reshape(*value.shape[:-1], *self.size)).log_p()
