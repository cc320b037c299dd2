"""Flows that transform half of the coordinates by functions of the other half."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from vaex.flows._base import BaseFlow, bounded, check_hidden, check_int
from vaex.flows._networks import Layer, apply_layers, init_layers
from vaex.flows.protocol import Params
from vaex.flows.spline import SMALLEST_BIN, rational_quadratic_spline


class _Coupling(BaseFlow):
    dimension: int
    hidden: tuple[int, ...]
    flip: bool

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_int(name, "dimension", self.dimension, 2)
        check_int(name, "context_dim", self.context_dim, 0)
        check_hidden(name, self.hidden)

    @property
    def _num_outputs(self) -> int:
        """Numbers that the network gives for each coordinate that moves."""
        raise NotImplementedError

    def _move(self, settings: jax.Array, x: jax.Array, inverse: bool) -> tuple[jax.Array, jax.Array]:
        """x [..., n] under settings [..., n, outputs], and the log-derivatives [..., n]."""
        raise NotImplementedError

    def init(self, key: jax.Array) -> dict[str, tuple[Layer, ...]]:
        """A network whose last layer is small; with ``context_dim``, add the context by ``with_context``."""
        kept = (self.dimension + 1) // 2
        kept = self.dimension - kept if self.flip else kept
        sizes = (kept, *self.hidden, (self.dimension - kept) * self._num_outputs)
        return {"network": init_layers(key, sizes, self.context_dim)}

    def _forward(self, params: Params, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._couple(params, z, inverse=False)

    def _inverse(self, params: Params, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        return self._couple(params, value, inverse=True)

    def _couple(self, params: Params, x: jax.Array, *, inverse: bool) -> tuple[jax.Array, jax.Array]:
        halves = jnp.split(x, [(self.dimension + 1) // 2], axis=-1)
        kept, moving = halves[::-1] if self.flip else halves
        settings = apply_layers(params, kept, jax.nn.relu)
        moved, log_slopes = self._move(settings.reshape(*moving.shape, self._num_outputs), moving, inverse)
        parts = [moved, kept] if self.flip else [kept, moved]
        return jnp.concatenate(parts, axis=-1), jnp.sum(log_slopes, axis=-1)


@dataclasses.dataclass(frozen=True)
class AffineCoupling(_Coupling):
    r"""Real NVP's layer: :math:`f(z) = (z_a,\; z_b \odot e^{s(z_a)} + t(z_a))`, one pass in both directions.

    The first half (the larger one for odd d) stays and moves the second; with ``flip`` the second moves the first.
    Alternate the two, or put ``reverse`` between layers.

    Parameters: ``network``, layers of a relu network; ``context`` [..., c] where ``context_dim`` is c > 0.

    Args:
      dimension: d, at least 2.
      hidden: widths of the hidden layers.
      flip: whether the first half is the one that moves.
      context_dim: c.
    Raises: ValueError if a size is out of range.
    Example:
      >>> flow = AffineCoupling(3, hidden=(16,))
      >>> value, log_det = flow.forward(flow.init(jax.random.key(0)), jnp.ones((5, 3)))
      >>> print(value[0, :2], value.shape, log_det.shape)
      [1. 1.] (5, 3) (5,)

    References: Dinh, Sohl-Dickstein & Bengio 2017, eqs. 4-8.
    """

    dimension: int
    hidden: tuple[int, ...] = (64, 64)
    flip: bool = False
    context_dim: int = 0

    @property
    def _num_outputs(self) -> int:
        return 2

    def _move(self, settings: jax.Array, x: jax.Array, inverse: bool) -> tuple[jax.Array, jax.Array]:
        shift, log_scale = settings[..., 0], bounded(settings[..., 1])
        return (
            ((x - shift) * jnp.exp(-log_scale), -log_scale) if inverse else (x * jnp.exp(log_scale) + shift, log_scale)
        )


@dataclasses.dataclass(frozen=True)
class SplineCoupling(_Coupling):
    r"""Neural spline layer: each coordinate of one half passes through a spline whose knots are functions of the other half.

    ``rational_quadratic_spline`` on [-bound, bound], the identity outside; one pass in both directions.

    Parameters: ``network``, layers of a relu network; ``context`` [..., c] where ``context_dim`` is c > 0.

    Args:
      dimension: d, at least 2.
      hidden: widths of the hidden layers.
      num_bins: pieces of each spline.
      bound: where the linear tails begin.
      flip: whether the first half is the one that moves.
      context_dim: c.
    Raises: ValueError if a size is out of range.
    Example:
      >>> flow = SplineCoupling(2, hidden=(16,))
      >>> params = flow.init(jax.random.key(0))
      >>> print(*flow.forward(params, jnp.array([0.5, 7.0])))  # 7 lies in a tail
      [0.5 7. ] 0.0

    References: Durkan et al. 2019, sections 3.1 and 3.2.
    """

    dimension: int
    hidden: tuple[int, ...] = (64, 64)
    num_bins: int = 8
    bound: float = 3.0
    flip: bool = False
    context_dim: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("SplineCoupling", "num_bins", self.num_bins, 1)
        if self.num_bins * SMALLEST_BIN >= 1 or not self.bound > 0:
            raise ValueError(
                f"SplineCoupling: num_bins is {self.num_bins} and bound is {self.bound}, expected fewer than "
                f"{round(1 / SMALLEST_BIN)} bins and a positive bound; the bins share [-bound, bound]"
            )

    @property
    def _num_outputs(self) -> int:
        return 3 * self.num_bins - 1

    def _move(self, settings: jax.Array, x: jax.Array, inverse: bool) -> tuple[jax.Array, jax.Array]:
        widths, heights, log_slopes = jnp.split(settings, [self.num_bins, 2 * self.num_bins], axis=-1)
        return rational_quadratic_spline(widths, heights, log_slopes, x, bound=self.bound, inverse=inverse)
