"""vaex's residual networks and MLPs in PyTorch, their parts named as vaex names them. Images are NCHW in memory channels_last."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn


class Dense(nn.Module):
    """An MLP: ``hidden_0``, ..., ``output``, with a relu between them."""

    def __init__(self, *widths: int):
        super().__init__()
        self._names = [*(f"hidden_{index}" for index in range(len(widths) - 2)), "output"]
        for name, pair in zip(self._names, itertools.pairwise(widths), strict=True):
            self.add_module(name, nn.Linear(*pair))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for name in self._names[:-1]:
            x = torch.relu(getattr(self, name)(x))
        return getattr(self, self._names[-1])(x)


class ResidualBlock(nn.Module):
    """x plus a 3x3 and a 1x1 convolution of x, with a relu before each."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.pixel = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.pixel(torch.relu(self.conv(torch.relu(x))))


class ResidualEncoder(nn.Module):
    """Convolutions 4x4 with stride 2, a 3x3 convolution, residual blocks, a relu."""

    def __init__(self, features: int, channels: int, stages: int, blocks: int):
        super().__init__()
        self._stages, self._blocks = stages, blocks
        for index in range(stages):
            layer = nn.Conv2d(channels if index else features, channels, 4, stride=2, padding=1)
            self.add_module(f"down_{index}", layer)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        for index in range(blocks):
            self.add_module(f"block_{index}", ResidualBlock(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for index in range(self._stages):
            x = torch.relu(getattr(self, f"down_{index}")(x))
        x = self.conv(x)
        for index in range(self._blocks):
            x = getattr(self, f"block_{index}")(x)
        return torch.relu(x)


class ResidualDecoder(nn.Module):
    """The mirror of ``ResidualEncoder``, from ``features`` to ``sizes[0]`` of ``outputs`` channels; ``sizes`` from the largest."""

    def __init__(self, features: int, channels: int, outputs: int, sizes: Sequence[tuple[int, int]], blocks: int):
        super().__init__()
        self._stages, self._blocks = len(sizes) - 1, blocks
        self.conv = nn.Conv2d(features, channels, 3, padding=1)
        for index in range(blocks):
            self.add_module(f"block_{index}", ResidualBlock(channels))
        for index in range(self._stages):
            odd = (sizes[index][0] % 2, sizes[index][1] % 2)
            width = channels if index else outputs
            self.add_module(f"up_{index}", nn.ConvTranspose2d(channels, width, 4, 2, padding=1, output_padding=odd))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        for index in range(self._blocks):
            x = getattr(self, f"block_{index}")(x)
        x = torch.relu(x)
        for index in reversed(range(self._stages)):
            x = getattr(self, f"up_{index}")(x)
            x = torch.relu(x) if index else x
        return x


def sizes(shape: Sequence[int], stages: int) -> list[tuple[int, int]]:
    """Return the sides of images halved ``stages`` times, as far as each leaves two pixels, from the largest."""
    sides = [(shape[0], shape[1])]
    while len(sides) <= stages and min(sides[-1]) >= 4:
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    return sides
