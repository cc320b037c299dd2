"""Flows in which each coordinate is scaled and shifted by functions of the earlier ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaex.flows._base import BaseFlow, bounded, check_hidden, check_int
from vaex.flows._networks import Layer, apply_layers, init_layers, made_masks
from vaex.flows.protocol import Params


@dataclasses.dataclass(frozen=True)
class _Autoregressive(BaseFlow):
    dimension: int
    hidden: tuple[int, ...] = (64,)
    context_dim: int = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_int(name, "dimension", self.dimension, 1)
        check_int(name, "context_dim", self.context_dim, 0)
        # narrower, and some output would miss an input before it
        check_hidden(name, self.hidden, max(1, self.dimension - (0 if self.context_dim else 1)))

    def init(self, key: jax.Array) -> dict[str, tuple[Layer, ...]]:
        """A network whose last layer is small; with ``context_dim``, add the context by ``with_context``."""
        return {"network": init_layers(key, (self.dimension, *self.hidden, 2 * self.dimension), self.context_dim)}

    def shift_and_log_scale(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Shift and log-scale of each coordinate, as the network computes them from the earlier coordinates and the context.

        Args:
          params: as from ``init``, with the context where the flow takes one.
          x: [..., d].
        Returns: shift [..., d] and log-scale [..., d], the latter within (-7, 7).
        """
        masks = made_masks(self.dimension, self.hidden, 2, self.context_dim > 0)
        # tanh bounds the shift, whatever the input: passes in sequence would let a relu network's output explode
        shift, log_scale = jnp.split(apply_layers(params, x, jnp.tanh, masks), 2, axis=-1)
        return shift, bounded(log_scale)

    def _in_sequence(
        self, params: Params, given: jax.Array, move: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Solve x = move(given, shift(x), log_scale(x)), where pass i settles coordinate i; also return the sum of log-scales."""

        def settle(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
            shift, log_scale = self.shift_and_log_scale(params, carry[0])
            return (move(given, shift, log_scale), log_scale), None

        start = (jnp.zeros_like(given), jnp.zeros_like(given))
        (x, log_scale), _ = jax.lax.scan(settle, start, None, length=self.dimension)
        return x, jnp.sum(log_scale, axis=-1)


@dataclasses.dataclass(frozen=True)
class InverseAutoregressive(_Autoregressive):
    r"""IAF: :math:`f(z)_i = z_i e^{s_i(z_{<i})} + m_i(z_{<i})`. Sampling takes one pass, the inverse d in sequence.

    For posteriors: ``Transformed.sample_and_log_prob`` never inverts. Put ``reverse`` between two of them, and the
    encoder's features into ``with_context``.

    Parameters: ``network``, the layers of a masked network; ``context`` [..., c] where ``context_dim`` is c > 0.

    Args:
      dimension: d.
      hidden: widths of the hidden layers, each at least d - 1 (d with a context).
      context_dim: c.
    Raises: ValueError if a size is out of range.
    Example:
      >>> flow = InverseAutoregressive(3, hidden=(16,), context_dim=2)
      >>> params = flow.with_context(flow.init(jax.random.key(0)), jnp.ones((5, 2)))
      >>> value, log_det = flow.forward(params, jnp.zeros((4, 5, 3)))  # four samples for each of five examples
      >>> value.shape, log_det.shape
      ((4, 5, 3), (4, 5))

    References: Kingma et al. 2016, eqs. 8-10; Germain et al. 2015, eqs. 8, 12 and 13 for the masks.
    """

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        shift, log_scale = self.shift_and_log_scale(params, z)
        return z * jnp.exp(log_scale) + shift, jnp.sum(log_scale, axis=-1)

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        z, log_det = self._in_sequence(params, value, lambda x, shift, log_scale: (x - shift) * jnp.exp(-log_scale))
        return z, -log_det


@dataclasses.dataclass(frozen=True)
class MaskedAutoregressive(_Autoregressive):
    r"""MAF: :math:`x_i = z_i e^{s_i(x_{<i})} + m_i(x_{<i})`. Densities take one pass, sampling d in sequence.

    For priors and density estimation: ``Transformed.log_prob`` runs the network once. It has the parameters of
    ``InverseAutoregressive`` and is its inverse where s and m are functions of the value instead of z.

    Parameters: ``network``, the layers of a masked network; ``context`` [..., c] where ``context_dim`` is c > 0.

    Args:
      dimension: d.
      hidden: widths of the hidden layers, each at least d - 1 (d with a context).
      context_dim: c.
    Raises: ValueError if a size is out of range.
    Example:
      >>> flow = MaskedAutoregressive(3, hidden=(16,))
      >>> z, log_det = flow.inverse(flow.init(jax.random.key(0)), jnp.ones((5, 3)))
      >>> z.shape, log_det.shape
      ((5, 3), (5,))

    References: Papamakarios, Pavlakou & Murray 2017, eqs. 2-5.
    """

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._in_sequence(params, z, lambda z, shift, log_scale: z * jnp.exp(log_scale) + shift)

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        shift, log_scale = self.shift_and_log_scale(params, value)
        return (value - shift) * jnp.exp(-log_scale), -jnp.sum(log_scale, axis=-1)
