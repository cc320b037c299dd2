"""Residual cells of deep hierarchies, in the manner of VDVAE.

Kernels start as their standard deviations, all equal, and ``drawn`` makes numbers of those of a whole network: one draw compiles
in a fraction of the time that one for each kernel takes.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vaex.nets.activations import activation_function, soft_clip
from vaex.nets.conv import Conv

LOG_SCALE_LIMIT = 5.0  # of latents: no ratio of two scales is beyond e^10


def drawn(key: jax.Array, deviations: Any) -> Any:
    """Numbers of these standard deviations, from a normal cut at two of them.

    Example:
      >>> found = drawn(jax.random.key(0), {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)})
      >>> bool(jnp.all(found["bias"] == 0)), found["kernel"].shape
      (True, (2, 3))
    """
    leaves, tree = jax.tree.flatten(deviations)
    stops = np.cumsum([leaf.size for leaf in leaves])
    noise = jax.random.truncated_normal(key, -2.0, 2.0, (int(stops[-1]),)) / 0.87962566
    parts = [noise[stop - leaf.size : stop] for stop, leaf in zip(stops, leaves, strict=True)]
    return jax.tree.unflatten(tree, [leaf * part.reshape(leaf.shape) for leaf, part in zip(leaves, parts, strict=True)])


def deviation(scale: float = 1.0) -> Any:
    """An initialiser that gives every entry its standard deviation, sqrt(scale / inputs of the layer)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.full(shape, math.sqrt(scale / math.prod(shape[:-1])), dtype)

    return init


def layer(features: int, side: int, dtype: Any, name: str | None = None, scale: float = 1.0) -> Any:
    """A convolution of this side; one of 1x1 as the matrix product that it is, which compiles sooner."""
    settings: dict[str, Any] = {"dtype": dtype, "kernel_init": deviation(scale), "name": name}
    return nn.Dense(features, **settings) if side == 1 else Conv(features, (side, side), **settings)


class Bottleneck(nn.Module):
    """Convolutions with an activation before each: 1x1 to fewer channels, two that look around, 1x1 to ``features``.

    Attributes:
      features: channels of the output.
      middle: channels in between.
      kernel: side of the two middle convolutions; with 1 there are none.
      activation: name, see ``activation_function``.
      dtype: of the computation; parameters are float32.
      scale: variance of the output where the inputs of the last layer have variance 1, as it starts; 0 starts with zeros.
    Example:
      >>> block = Bottleneck(features=8, middle=2)
      >>> jax.eval_shape(block.init_with_output, jax.random.key(0), jnp.zeros((3, 4, 5, 6)))[0].shape
      (3, 4, 5, 8)

    References: Child 2021 (VDVAE), figure 3.
    """

    features: int
    middle: int
    kernel: int = 3
    activation: str = "silu"
    dtype: Any = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h, w, features]."""
        activation = activation_function(self.activation)
        for index, side in enumerate((1, self.kernel, self.kernel) if self.kernel > 1 else (1,)):
            x = layer(self.middle, side, self.dtype, f"layer_{index}")(activation(x))
        return layer(self.features, 1, self.dtype, "output", self.scale)(activation(x))


class ResidualCell(nn.Module):
    """x plus a ``Bottleneck`` of x; attributes as there."""

    middle: int
    kernel: int = 3
    activation: str = "silu"
    dtype: Any = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c], and so is the result."""
        rest = (self.kernel, self.activation, self.dtype, self.scale)
        return x + Bottleneck(x.shape[-1], self.middle, *rest, name="block")(x)


class TopDownCell(nn.Module):
    """One layer of latents: its prior from what comes from above, its posterior from that and the activations of x.

    Attributes:
      latents: channels of z.
      middle, kernel, activation, dtype, scale: as of ``Bottleneck``; ``scale`` of the residual branches.

    References: Child 2021 (VDVAE), figure 3; the log scales are bounded smoothly, as in Vahdat & Kautz 2020 (NVAE), section 3.2.
    """

    latents: int
    middle: int
    kernel: int = 3
    activation: str = "silu"
    dtype: Any = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, code: jax.Array, activations: jax.Array | None, source: str) -> tuple[Any, Any]:
        """The way on, and this layer's latents.

        Args:
          x: [b, h, w, c] from above.
          code: [b, h, w, latents]: noise that makes z, or z.
          activations: [b, h, w, c'] of the example; None leaves the posterior out.
          source: "posterior" or "prior", whose scale and mean make z of the noise; "given" where the code is z.
        Returns: x of the next cell; and z, the prior's mean and log scale, the posterior's (or None), all float32 like the code.
        """
        rest = (self.kernel, self.activation, self.dtype)
        raw = Bottleneck(2 * self.latents + x.shape[-1], self.middle, *rest, 0.0, name="prior")(x)
        p_mean, p_log_scale = _moments(raw[..., : 2 * self.latents])
        q_mean = q_log_scale = None
        if activations is not None:
            seen = jnp.concatenate([x, activations], axis=-1)
            q_mean, q_log_scale = _moments(Bottleneck(2 * self.latents, self.middle, *rest, name="posterior")(seen))
        z = code
        if source != "given":
            mean, log_scale = (p_mean, p_log_scale) if source == "prior" else (q_mean, q_log_scale)
            assert mean is not None and log_scale is not None  # a posterior is asked for with activations
            z = mean + jnp.exp(log_scale) * code
        x = x + raw[..., 2 * self.latents :]
        x = x + layer(x.shape[-1], 1, self.dtype, "latents_in", self.scale)(z.astype(x.dtype))
        x = ResidualCell(self.middle, *rest, self.scale, name="residual")(x)
        return x, (z, p_mean, p_log_scale, q_mean, q_log_scale)


def _moments(raw: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, log_scale = jnp.split(raw.astype(jnp.float32), 2, axis=-1)
    return mean, soft_clip(log_scale, LOG_SCALE_LIMIT)
