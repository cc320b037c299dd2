"""A discriminator of examples: what it sees in them, and how steep it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaex import nets
from vaex.core import Batch, PyTree
from vaex.data.spec import Spec
from vaex.models import networks


class Seen(NamedTuple):
    """What a discriminator makes of its inputs.

    Attributes:
      features: activations of its last hidden layer, f(x) [b, features].
      log_odds: that the inputs are examples, D(x) [b].
    """

    features: jax.Array
    log_odds: jax.Array


class Discriminator(NamedTuple):
    """A network from examples of a spec to features, a leaky ReLU, and a linear layer of them that starts at zero.

    Attributes:
      network: the kind that ``config.network`` names.
      spec: of the examples.
      width: number of features.
    """

    network: nets.Network
    spec: Spec
    width: int

    def init(self, key: jax.Array, batch: Batch) -> PyTree:
        """Return its parameters: those of the network, and the weights [features] of the last layer."""
        inputs = networks.network_inputs(self.spec, batch["x"][:1])
        return self.network.init(key, inputs)["params"], jnp.zeros(self.width)

    def see(self, params: PyTree, x: jax.Array, means: jax.Array | None = None) -> Seen:
        """Return what it sees in examples x [b, *shape], or in ``means`` [b, *shape] wherever x is observed."""
        if means is not None:
            x = jnp.where(jnp.isnan(x), x, means) if self.spec.missing else means
        return self._read(params, networks.network_inputs(self.spec, x))

    def squared_slope(self, params: PyTree, x: jax.Array) -> jax.Array:
        """Return the squared norm of the gradient of D by its inputs at x [b, *shape], [b].

        Unless it is kept small, the discriminator tells all examples apart and its features grow; means of fully connected decoders
        then stop depending on z, or fill with speckles of which no feature tells.

        References: Mescheder et al. 2018, Which training methods for GANs do actually converge?, eq. 9 (R1).
        """
        inputs = networks.network_inputs(self.spec, x)
        slopes = jax.grad(lambda inputs: jnp.sum(self._read(params, inputs).log_odds))(inputs)
        return jnp.sum(jnp.square(slopes), axis=tuple(range(1, slopes.ndim)))

    def _read(self, params: PyTree, inputs: jax.Array) -> Seen:
        hidden, output = params
        outputs: Any = self.network.apply({"params": hidden}, inputs)
        features = jax.nn.leaky_relu(outputs)
        return Seen(features, features @ output)


def discriminator(config: networks.NetworkConfig, spec: Spec, features: int) -> Discriminator:
    """Return a discriminator of examples of this spec.

    Raises: UserError where the network does not fit the data.
    """
    return Discriminator(networks.encoder_module(config, spec, features), spec, features)
