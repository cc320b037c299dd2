"""A deep hierarchical VAE in PyTorch: residual cells up and down, levels whose sides halve, as vaex's ``TopDownNetwork``."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peers.torch_loop import Eager as Training
from peers.torch_networks import fill, load_tree
from torch import nn
from torch.nn import functional
from workloads import Workload

LIMIT = 5.0  # of the log scales of its layers


def sliced(tree: Any, index: int) -> Any:
    """Return the parameters of one cell of those that are stacked."""
    return {name: sliced(part, index) for name, part in tree.items()} if isinstance(tree, Mapping) else tree[index]


class Bottleneck(nn.Module):
    """Convolutions 1x1, two of ``kernel`` (none where it is 1), and 1x1, with a silu before each."""

    def __init__(self, inputs: int, middle: int, features: int, kernel: int):
        super().__init__()
        sides = (1, kernel, kernel) if kernel > 1 else (1,)
        for index, side in enumerate(sides):
            layer = nn.Conv2d(middle if index else inputs, middle, side, padding=side // 2)
            self.add_module(f"layer_{index}", layer)
        self.output, self._count = nn.Conv2d(middle, features, 1), len(sides)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index in range(self._count):
            x = getattr(self, f"layer_{index}")(functional.silu(x))
        return self.output(functional.silu(x))


class ResidualCell(nn.Module):
    """x plus a bottleneck of x."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.block = Bottleneck(width, max(1, width // 2), width, kernel)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


def _moments(raw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, log_scale = raw.chunk(2, 1)
    return mean, LIMIT * torch.tanh(log_scale / LIMIT)


class TopDownCell(nn.Module):
    """A layer of latents: prior of the features, posterior of these and the activations of x."""

    def __init__(self, latents: int, width: int, kernel: int):
        super().__init__()
        middle = max(1, width // 2)
        self._latents = latents
        self.prior = Bottleneck(width, middle, 2 * latents + width, kernel)
        self.posterior = Bottleneck(2 * width, middle, 2 * latents, kernel)
        self.latents_in = nn.Conv2d(latents, width, 1)
        self.residual = ResidualCell(width, kernel)

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor, activations: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features for the cell below, and the sum of the layer's KL."""
        raw = self.prior(x)
        prior_mean, prior_log_scale = _moments(raw[:, : 2 * self._latents])
        mean, log_scale = _moments(self.posterior(torch.cat([x, activations], 1)))
        ratio = log_scale - prior_log_scale
        squares = torch.exp(2 * ratio) + ((mean - prior_mean) * torch.exp(-prior_log_scale)) ** 2
        kl = 0.5 * (squares - 1 - 2 * ratio).sum()
        x = x + raw[:, 2 * self._latents :] + self.latents_in(mean + torch.exp(log_scale) * noise)
        return self.residual(x), kl


class Level(nn.Module):
    """The cells of one resolution, and the maps to and from its neighbours, whose sides are half or twice as long."""

    def __init__(self, side: tuple[int, int], cells: int, width: int, latents: int, below: bool, above: bool):
        super().__init__()
        kernel = 3 if min(side) > 2 else 1
        self.up = nn.ModuleList(ResidualCell(width, kernel) for _ in range(cells))
        self.down = nn.ModuleList(TopDownCell(latents, width, kernel) for _ in range(cells))
        self.bias = nn.Parameter(torch.zeros(1, width, *side))
        self.from_below = nn.Conv2d(width, width, 2, stride=2) if below else None
        self.from_above = nn.Conv2d(width, 4 * width, 1) if above else None

    @torch.no_grad()
    def load(self, weights: dict[str, Any]) -> None:
        """Take vaex's weights; its patches are ordered by side, side, channel."""
        for name in ("up", "down"):
            for index, cell in enumerate(getattr(self, name)):
                load_tree(cell, sliced(weights[name], index), name)
        self.bias.copy_(torch.tensor(weights["bias"]).permute(2, 0, 1)[None])
        width = self.bias.shape[1]
        if self.from_below is not None:
            kernel, bias = weights["from_below"]["kernel"], weights["from_below"]["bias"]
            fill(self.from_below, {"kernel": kernel.reshape(2, 2, width, width), "bias": bias}, "from_below")
        if self.from_above is not None:  # which pixel_shuffle orders by channel, side, side
            kernel, bias = weights["from_above"]["kernel"], weights["from_above"]["bias"]
            kernel = kernel.reshape(-1, 4, width).swapaxes(1, 2).reshape(-1, 4 * width)
            bias = bias.reshape(4, width).swapaxes(0, 1).reshape(-1)
            fill(self.from_above, {"kernel": kernel, "bias": bias}, "from_above")


class Network(nn.Module):
    """The hierarchy of images whose sides are powers of two."""

    def __init__(self, workload: Workload):
        super().__init__()
        config, (height, width, c) = workload.config, workload.shape
        blocks = [tuple(map(int, block.split("x"))) for block in config["blocks"].split(",")]
        self.sides = [((side, round(side * width / height)), cells) for side, cells in blocks]
        self.latents, channels = config["latent_channels"], config["width"]
        last = len(blocks) - 1
        self.levels = nn.ModuleList(
            Level(side, cells, channels, self.latents, index > 0, index < last)
            for index, (side, cells) in enumerate(self.sides)
        )
        self.stem = nn.Conv2d(c, channels, 4, stride=2, padding=1)
        self.output = nn.ConvTranspose2d(channels, c, 4, stride=2, padding=1)

    def load(self, weights: dict[str, Any]) -> None:
        """Take vaex's weights."""
        fill(self.stem, weights["stem"], "stem")
        fill(self.output, weights["output"], "output")
        for index, level in enumerate(self.levels):
            level.load(weights[f"level_{index}"])  # type: ignore[operator]

    def fresh(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Draw the noise of all layers, from the top."""
        return [
            torch.randn(len(x), self.latents, *side, device=x.device).to(memory_format=torch.channels_last)
            for side, cells in reversed(self.sides)
            for _ in range(cells)
        ]

    def given(self, noise: torch.Tensor) -> list[torch.Tensor]:
        """Split vaex's noise [b, d] into that of the layers."""
        layers, start = [], 0
        for (h, w), cells in reversed(self.sides):
            for _ in range(cells):
                stop = start + h * w * self.latents
                layers.append(noise[:, start:stop].reshape(-1, h, w, self.latents).permute(0, 3, 1, 2))
                start = stop
        return layers

    def forward(self, x: torch.Tensor, noise: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits, and the sum of all KL."""
        features, activations = self.stem(x), []
        for level in self.levels:
            features = features if level.from_below is None else level.from_below(features)  # type: ignore[operator]
            for cell in level.up:  # type: ignore[union-attr]
                features = cell(features)
            activations.append(features)
        kl, draws = x.new_zeros(()), iter(noise)
        features = torch.zeros_like(features)
        for level, activation in zip(reversed(self.levels), reversed(activations), strict=True):
            if level.from_above is not None:
                features = functional.pixel_shuffle(level.from_above(features), 2)  # type: ignore[operator]
            features = features + level.bias
            for cell in level.down:  # type: ignore[union-attr]
                features, nats = cell(features, next(draws), activation)
                kl = kl + nats
        return self.output(features), kl


class Eager(Training):
    """The hierarchical VAE in training."""

    def network(self, workload: Workload) -> Network:
        """Return the network."""
        return Network(workload)

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights."""
        self._net.load(parity["weights"]["vae"]["network"])

    def _loss(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        logits, kl = self._net(x, self._net.fresh(x) if noise is None else self._net.given(noise))
        return (functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)


class Compiled(Eager):
    """``Eager`` under torch.compile."""

    compiled = True
