"""The benchmark networks in PyTorch, and vaex's weights in them. Images are NCHW in memory channels_last.

Flattening goes over (h, w, c) as in vaex, so that weights agree; in channels_last that is a view.
"""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from residual import SECOND_KERNELS
from torch import nn
from workloads import Workload

LIMIT = 7.0  # of vaex's bounded log scales


class Flat(nn.Module):
    """[b, c, h, w] -> [b, h * w * c]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Images(nn.Module):
    """[b, h * w * c] -> [b, c, h, w]."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, *self.shape).permute(0, 3, 1, 2)


class Block(nn.Module):
    """x plus two convolutions of it."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, size, padding=size // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.a(torch.relu(x))))


class Autoencoder(nn.Module):
    """Encoder to a Gaussian posterior and decoder to logits. ``layers``: vaex's parameter path -> layer."""

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, workload: Workload):
        super().__init__()
        self.latents = 0
        self.layers: dict[str, nn.Module] = {}
        config = workload.config
        make = _residual if workload.model == "residual" else _conv if config.get("network") == "conv" else _mlp
        h, w, c = workload.shape  # these networks are of images
        make(self, config, (h, w, c))

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log of the standard deviation, [b, d] each."""
        mean, raw = self.encoder(x).split(self.latents, dim=-1)
        return mean, LIMIT * torch.tanh(raw / LIMIT)

    def load(self, weights: Mapping[str, Any]) -> None:
        """Load vaex's weights.

        Raises: KeyError or RuntimeError where layers or shapes differ.
        """
        for path, layer in self.layers.items():
            side, name = path.split("/")
            fill(layer, weights[side][name], path)


@torch.no_grad()
def fill(layer: Any, weights: Mapping[str, Any], path: str) -> None:
    """Copy vaex's kernel, and its bias where there is one, into a dense or convolutional layer.

    Raises: RuntimeError where shapes differ.
    """
    kernel = torch.from_numpy(np.array(weights["kernel"]))
    if isinstance(layer, nn.ConvTranspose2d):
        kernel = kernel.flip(0, 1).permute(2, 3, 0, 1)  # PyTorch's is the flipped transpose of lax's
    elif isinstance(layer, nn.Conv2d):
        kernel = kernel.reshape(1, 1, *kernel.shape) if kernel.ndim == 2 else kernel  # a dense layer of each pixel
        kernel = kernel.permute(3, 2, 0, 1)
    else:
        kernel = kernel.T
    if layer.weight.shape != kernel.shape:
        raise RuntimeError(f"{path}: weight {tuple(layer.weight.shape)}, vaex's {tuple(kernel.shape)}")
    layer.weight.copy_(kernel)
    if "bias" in weights:
        layer.bias.copy_(torch.from_numpy(np.array(weights["bias"])))


def load_tree(module: nn.Module, weights: Mapping[str, Any], path: str = "") -> None:
    """Copy vaex's parameters into a module whose parts are named as they are.

    Raises: AttributeError or RuntimeError where parts or shapes differ.
    """
    for name, part in weights.items():
        where = f"{path}/{name}"
        (fill if "kernel" in part else load_tree)(getattr(module, name), part, where)


def _chain(net: Autoencoder, side: str, layers: list[tuple[str, nn.Module]]) -> nn.Sequential:
    """Chain named layers with a relu between them."""
    parts: list[nn.Module] = []
    for index, (name, layer) in enumerate(layers):
        net.layers[f"{side}/{name}"] = layer
        parts += [layer] if index == 0 else [nn.ReLU(), layer]
    return nn.Sequential(*parts)


def _mlp(net: Autoencoder, config: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    pixels, hidden, net.latents = int(np.prod(shape)), config["hidden"], config["latent_dim"]
    names = [*(f"hidden_{index}" for index in range(len(hidden))), "output"]

    def dense(side: str, widths: list[int]) -> nn.Sequential:
        pairs = itertools.pairwise(widths)
        return _chain(net, side, [(name, nn.Linear(*pair)) for name, pair in zip(names, pairs, strict=True)])

    net.encoder = nn.Sequential(Flat(), dense("encoder", [pixels, *hidden, 2 * net.latents]))
    net.decoder = nn.Sequential(dense("decoder", [net.latents, *hidden[::-1], pixels]), Images(shape))


def _conv(net: Autoencoder, config: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    sizes, widths, hidden, net.latents = [shape[:2]], [shape[2]], config["hidden"][0], config["latent_dim"]
    for width in config["channels"]:
        if min(sizes[-1]) < 4:
            break
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        widths.append(width)
    stages = range(len(sizes) - 1)
    down = [(f"conv_{i}", nn.Conv2d(widths[i], widths[i + 1], 4, stride=2, padding=1)) for i in stages]
    grid = sizes[-1][0] * sizes[-1][1] * widths[-1]
    dense = [("hidden", nn.Linear(grid, hidden)), ("output", nn.Linear(hidden, 2 * net.latents))]
    net.encoder = nn.Sequential(_chain(net, "encoder", down), nn.ReLU(), Flat(), _chain(net, "encoder", dense))
    dense = [("hidden", nn.Linear(net.latents, hidden)), ("grid", nn.Linear(hidden, grid))]
    up = [
        (
            f"conv_{i}",
            nn.ConvTranspose2d(
                widths[i + 1], widths[i], 4, stride=2, padding=1, output_padding=(sizes[i][0] % 2, sizes[i][1] % 2)
            ),
        )
        for i in reversed(stages)
    ]
    images = Images((*sizes[-1], widths[-1]))
    net.decoder = nn.Sequential(_chain(net, "decoder", dense), nn.ReLU(), images, _chain(net, "decoder", up))


def _residual(net: Autoencoder, config: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    (h, w, c), width, latents = shape, config["channels"], config["latent_channels"]
    net.latents = h * w * latents

    def stack(side: str, channels: tuple[int, int], kernels: tuple[int, int]) -> nn.Sequential:
        first = nn.Conv2d(channels[0], width, kernels[0], padding=kernels[0] // 2)
        blocks = [Block(width, size) for size in SECOND_KERNELS]
        last = nn.Conv2d(width, channels[1], kernels[1], padding=kernels[1] // 2)
        named = {f"block_{i}_{part}": getattr(block, part) for i, block in enumerate(blocks) for part in "ab"}
        net.layers |= {f"{side}/{name}": layer for name, layer in {"first": first, "last": last, **named}.items()}
        return nn.Sequential(first, *blocks, nn.ReLU(), last)

    net.encoder = nn.Sequential(stack("encoder", (c, 2 * latents), (3, 1)), SplitFlat())
    net.decoder = nn.Sequential(Images((h, w, latents)), stack("decoder", (latents, c), (1, 3)))


class SplitFlat(nn.Module):
    """[b, 2 c, h, w] -> [b, 2 * h * w * c]: all means, then all log scales, each over (h, w, c)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([half.permute(0, 2, 3, 1).flatten(1) for half in x.chunk(2, dim=1)], dim=-1)
