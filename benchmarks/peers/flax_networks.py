"""The benchmark networks with Linen's own layers, their parameters named as vaex's."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import residual
from workloads import Workload


class Dense(nn.Module):
    """An MLP."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index, width in enumerate(self.widths[:-1]):
            x = nn.relu(nn.Dense(width, name=f"hidden_{index}")(x))
        return nn.Dense(self.widths[-1], name="output")(x)


class Down(nn.Module):
    """Convolutions of stride 2, then dense layers."""

    channels: tuple[int, ...]
    hidden: int
    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index, width in enumerate(self.channels):
            x = nn.relu(nn.Conv(width, (4, 4), strides=2, padding=1, name=f"conv_{index}")(x))
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(self.features, name="output")(x)


class Up(nn.Module):
    """Dense layers, then transposed convolutions of stride 2; ``sizes`` of the images, from the largest."""

    channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    hidden: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(z))
        x = nn.relu(nn.Dense(math.prod(self.sizes[-1]) * self.channels[-1], name="grid")(x))
        x = x.reshape(-1, *self.sizes[-1], self.channels[-1])
        for index in reversed(range(len(self.channels) - 1)):
            padding = [(2, 2 + side % 2) for side in self.sizes[index]]
            x = nn.ConvTranspose(self.channels[index], (4, 4), (2, 2), padding, name=f"conv_{index}")(x)
            x = nn.relu(x) if index else x
        return x


def networks(workload: Workload) -> tuple[nn.Module, nn.Module, int]:
    """Encoder of [b, h, w, c], decoder of [b, ...] and the number of latents."""
    config: Any = workload.config
    h, w, c = workload.shape
    if workload.model == "residual":
        stacks = residual.stacks(residual.Config(**config), c, nn.Conv)
        return *stacks, h * w * config["latent_channels"]
    latents, hidden = config["latent_dim"], config["hidden"]
    if config.get("network") != "conv":
        return Dense((*hidden, 2 * latents)), Dense((*hidden[::-1], h * w * c)), latents
    sizes = [(h, w)]
    while len(sizes) <= len(config["channels"]) and min(sizes[-1]) >= 4:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    channels = config["channels"][: len(sizes) - 1]
    return Down(channels, hidden[0], 2 * latents), Up((c, *channels), tuple(sizes), hidden[0]), latents
