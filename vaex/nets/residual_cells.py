"""Residual cells of deep hierarchies of latents, as in VDVAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from vaex.nets.activations import activation_function
from vaex.nets.conv import Conv
from vaex.nets.initializers import fan_in_deviation
from vaex.nets.latent_layer import Moments, latents_from_code, normal_moments
from vaex.nets.protocols import Source

if TYPE_CHECKING:
    from jax.typing import DTypeLike

# z, mean and log scale of the prior, mean and log scale of the posterior (None in a pass without x)
LayerLatents = tuple[jax.Array, jax.Array, jax.Array, jax.Array | None, jax.Array | None]


def square_conv(
    features: int, side: int, dtype: DTypeLike, name: str | None = None, scale: float = 1.0
) -> nn.Dense | Conv:
    """Convolution with a square kernel, which starts as its standard deviations; see ``vaex.nets.initializers``.

    1x1 is a dense layer, the matrix product that it is, which compiles sooner.

    Args:
      features: channels of the output.
      side: pixels of the kernel on each side.
      dtype: of the computation; parameters are float32.
      name: of the submodule.
      scale: variance of the output where the inputs have variance 1.
    """
    init = fan_in_deviation(scale)
    if side == 1:
        return nn.Dense(features, dtype=dtype, kernel_init=init, name=name)
    return Conv(features, (side, side), dtype=dtype, kernel_init=init, name=name)


class Bottleneck(nn.Module):
    """Convolutions with an activation before each: 1x1 to fewer channels, two of a larger kernel, 1x1 to ``features``.

    Attributes:
      features: channels of the output.
      middle: channels in between.
      kernel: side of the two middle convolutions; with 1 there are none.
      activation: name, see ``activation_function``.
      dtype: of the computation; parameters are float32.
      scale: initial variance of the output where the inputs of the last layer have variance 1; 0 starts with zeros.
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
    dtype: DTypeLike = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h, w, features]."""
        activation = activation_function(self.activation)
        for index, side in enumerate((1, self.kernel, self.kernel) if self.kernel > 1 else (1,)):
            x = square_conv(self.middle, side, self.dtype, f"layer_{index}")(activation(x))
        return square_conv(self.features, 1, self.dtype, "output", self.scale)(activation(x))


class ResidualCell(nn.Module):
    """x plus a ``Bottleneck`` of x, whose attributes it shares."""

    middle: int
    kernel: int = 3
    activation: str = "silu"
    dtype: DTypeLike = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, h, w, c] -> [b, h, w, c]."""
        settings = (self.kernel, self.activation, self.dtype, self.scale)
        return x + Bottleneck(x.shape[-1], self.middle, *settings, name="block")(x)


class TopDownCell(nn.Module):
    """One layer of latents: a prior from the features above, a posterior from these and the activations of x.

    Attributes:
      latents: channels of z.
      middle, kernel, activation, dtype: as of ``Bottleneck``.
      scale: as of ``Bottleneck``, of the residual branches.

    References: Child 2021 (VDVAE), figure 3; the log scales are bounded smoothly, as in Vahdat & Kautz 2020 (NVAE), section 3.2.
    """

    latents: int
    middle: int
    kernel: int = 3
    activation: str = "silu"
    dtype: DTypeLike = jnp.float32
    scale: float = 1.0

    @nn.compact
    def __call__(
        self, x: jax.Array, code: jax.Array, activations: jax.Array | None, source: Source
    ) -> tuple[jax.Array, LayerLatents]:
        """Return the features for the cell below, and the latents of this layer.

        Args:
          x: features from above, [b, h, w, c].
          code: noise from which z is made, or z, [b, h, w, latents].
          activations: of the examples, [b, h, w, c']; None leaves the posterior out.
          source: what the code holds, see ``HierarchicalNetwork.top_down``.
        Returns: features [b, h, w, c]; and z, mean and log scale of the prior, those of the posterior or None, all float32.
        Raises: ValueError for the posterior without activations.
        """
        settings = (self.kernel, self.activation, self.dtype)
        raw = Bottleneck(2 * self.latents + x.shape[-1], self.middle, *settings, 0.0, name="prior")(x)
        prior = normal_moments(raw[..., : 2 * self.latents])
        posterior: Moments | None = None
        if activations is not None:
            both = jnp.concatenate([x, activations], axis=-1)
            posterior = normal_moments(Bottleneck(2 * self.latents, self.middle, *settings, name="posterior")(both))
        z = latents_from_code(code, source, prior, posterior)
        x = x + raw[..., 2 * self.latents :]
        x = x + square_conv(x.shape[-1], 1, self.dtype, "latents_in", self.scale)(z.astype(x.dtype))
        x = ResidualCell(self.middle, *settings, self.scale, name="residual")(x)
        posterior_mean, posterior_log_scale = posterior or (None, None)
        return x, (z, *prior, posterior_mean, posterior_log_scale)
