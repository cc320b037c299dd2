"""What a quantizer must offer to be part of a model, whoever wrote it."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import jax

from vaex.quantizers._common import Quantized

Params: TypeAlias = Any  # pytree of arrays that gradients move; () where there are none
State: TypeAlias = Any  # pytree of arrays that ``update`` moves


class Quantizer(Protocol):
    """Pure functions from vectors to integer codes and back: ``slots`` codes per vector, each from 0 to ``codes`` - 1.

    Any record of functions with these names will do. ``hparams`` is the model's record of hyperparameters, traced.
    """

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def slots(self) -> int:
        """Codes per vector."""
        ...

    @property
    def codes(self) -> int:
        """Number of codes of each slot."""
        ...

    @property
    def init(self) -> Init:
        """Make parameters and state from the vectors of a first batch."""
        ...

    @property
    def quantize(self) -> Quantize:
        """Replace vectors by codes."""
        ...

    @property
    def lookup(self) -> Lookup:
        """Return the vectors that indices stand for."""
        ...

    @property
    def loss(self) -> Loss:
        """Compute the quantizer's own loss."""
        ...

    @property
    def update(self) -> Update:
        """Move the state by one batch."""
        ...


class Init(Protocol):
    """Make parameters and state from the vectors of a first batch."""

    def __call__(self, key: jax.Array, z: jax.Array) -> tuple[Params, State]:
        """Return parameters and state for vectors like ``z`` [..., dim]."""
        ...


class Quantize(Protocol):
    """Replace vectors by codes."""

    def __call__(self, params: Params, state: State, z: jax.Array, first: jax.Array | None = None) -> Quantized:
        """Return codes of z [..., dim], with indices [..., slots].

        ``first`` [...], integers: by as many of the first slots alone, the others' indices being -1, where each slot codes what
        those before it leave; None always for other quantizers.
        """
        ...


class Lookup(Protocol):
    """Return the vectors that indices stand for."""

    def __call__(self, params: Params, state: State, indices: jax.Array) -> jax.Array:
        """Return [..., dim] for indices [..., slots]."""
        ...


class Loss(Protocol):
    """Compute the quantizer's own loss."""

    def __call__(self, hparams: Any, quantized: Quantized, z: jax.Array, mask: jax.Array | None) -> jax.Array:
        """Return [...], nats per vector of z [..., dim]; mask [...] is 1 for the vectors that count, None for all."""
        ...


class Update(Protocol):
    """Move the state by one batch."""

    def __call__(
        self, key: jax.Array, hparams: Any, state: State, z: jax.Array, indices: jax.Array, mask: jax.Array | None
    ) -> State:
        """Return the next state, given vectors z [..., dim] and the indices [..., slots] that they were given."""
        ...
