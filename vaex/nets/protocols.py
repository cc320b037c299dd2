"""What models ask of their networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax

from vaex.core import PyTree


class Network(Protocol):
    """An encoder or a decoder: two pure functions over a tree of parameters. Every Flax Linen module is one.

    An encoder maps examples [b, *shape] to [b, features], from which the posterior is made. A decoder maps latents [..., d] to raw
    numbers [..., *shape], from which the likelihood is made. In a model that reads labels both take a condition [..., n] as well,
    such as one-hot labels, whose leading axes broadcast with those of the first input.
    """

    def init(self, rngs: jax.Array, /, *inputs: jax.Array | None) -> Mapping[str, PyTree]:
        """Return the first variables, with the parameters as "params", for inputs of these shapes.

        Args:
          rngs: a key.
          inputs: as of ``apply``; their values do not matter.
        """
        ...

    def apply(self, variables: Mapping[str, PyTree], /, *inputs: jax.Array | None) -> Any:
        """Return the output array at these variables.

        Args:
          variables: the parameters as "params".
          inputs: x or z, and the condition or None.
        """
        ...


Source = Literal[
    "posterior", "prior", "given"
]  # what a code holds: noise of the posterior, noise of the prior, or z itself


class TopDownPass(NamedTuple):
    """Everything that one top-down pass computes.

    Attributes:
      features: what the output is made of.
      z: latents of all layers, those of the top layer first, [..., d].
      prior_mean, prior_log_scale: of z given the layers above, [..., d].
      posterior_mean, posterior_log_scale: of z given the layers above and x, [..., d]; None in a pass without x.
    """

    features: jax.Array
    z: jax.Array
    prior_mean: jax.Array
    prior_log_scale: jax.Array
    posterior_mean: jax.Array | None
    posterior_log_scale: jax.Array | None


class HierarchicalNetwork(Protocol):
    """The network of a hierarchy of latents: pure functions over a tree of parameters.

    A bottom-up pass turns examples into activations for each layer. A top-down pass draws the latents layer by layer, from the top,
    and computes the prior of each layer given those above it, and with activations its posterior.
    """

    @property
    def sizes(self) -> tuple[int, ...]:
        """Entries of z in each layer, from the top."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each layer in figures, from the top."""
        ...

    def init(self, key: jax.Array) -> tuple[PyTree, PyTree]:
        """Return the parameters, and the running statistics of batches, () where there are none."""
        ...

    def bottom_up(
        self, params: PyTree, statistics: PyTree, x: jax.Array, *, train: bool = False
    ) -> tuple[tuple[jax.Array, ...], PyTree]:
        """Return activations of examples x [b, *shape], [b, ...] each, and the next statistics."""
        ...

    def top_down(
        self, params: PyTree, code: jax.Array, activations: tuple[jax.Array, ...] | None, source: Source
    ) -> TopDownPass:
        """Return latents, priors and posteriors of every layer.

        Args:
          params: from ``init``.
          code: [..., d], from which z is made in each layer, from the top; with activations its last axis before d is b.
          activations: from ``bottom_up``, of b examples; None leaves the posteriors out.
          source: what the code holds: noise of the "posterior" or of the "prior", or "given", z itself.
        Raises: ValueError for the posterior without activations.
        """
        ...

    def output(self, params: PyTree, features: jax.Array) -> jax.Array:
        """Return the raw numbers for the likelihood from the features of a top-down pass, [..., *shape] with more channels."""
        ...
