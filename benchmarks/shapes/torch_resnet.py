"""A VAE of residual convolutions on colour images in PyTorch, with a Gaussian likelihood of scale 1."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import math
from typing import Any

import torch
from peers.torch_loop import Eager as Training
from peers.torch_networks import LIMIT, Flat, Images, load_tree
from torch import nn
from workloads import Workload

from shapes.torch_layers import ResidualDecoder, ResidualEncoder, sizes

BLOCKS = 2  # vaex's default


class Encoder(nn.Module):
    """Residual convolutions to a map, one hidden layer, an affine map."""

    def __init__(self, config: Any, shape: tuple[int, ...], sides: tuple[int, int], stages: int):
        super().__init__()
        channels, hidden = config["channels"][-1], config["hidden"][0]
        self.map = ResidualEncoder(shape[2], channels, stages, BLOCKS)
        self.hidden = nn.Linear(sides[0] * sides[1] * channels, hidden)
        self.output = nn.Linear(hidden, 2 * config["latent_dim"])
        self._flat = Flat()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(torch.relu(self.hidden(self._flat(self.map(x)))))


class Decoder(nn.Module):
    """The mirror of ``Encoder``."""

    def __init__(self, config: Any, shape: tuple[int, ...], sides: list[tuple[int, int]]):
        super().__init__()
        channels, hidden = config["channels"][-1], config["hidden"][0]
        self.hidden = nn.Linear(config["latent_dim"], hidden)
        self.grid = nn.Linear(hidden, sides[-1][0] * sides[-1][1] * channels)
        self._images = Images((*sides[-1], channels))
        self.map = ResidualDecoder(channels, channels, shape[2], sides, BLOCKS)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.map(self._images(torch.relu(self.grid(torch.relu(self.hidden(z))))))


class Network(nn.Module):
    """Encoder to a Gaussian posterior and decoder to means of pixels."""

    def __init__(self, workload: Workload):
        super().__init__()
        sides = sizes(workload.shape, len(workload.config["channels"]))
        self.encoder = Encoder(workload.config, workload.shape, sides[-1], len(sides) - 1)
        self.decoder = Decoder(workload.config, workload.shape, sides)

    def posterior(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log of the standard deviation, [b, d] each."""
        mean, raw = self.encoder(x).chunk(2, dim=-1)
        return mean, LIMIT * torch.tanh(raw / LIMIT)


class Eager(Training):
    """The VAE in training."""

    def network(self, workload: Workload) -> Network:
        """Return the network."""
        return Network(workload)

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights."""
        for name in ("encoder", "decoder"):
            load_tree(getattr(self._net, name), parity["weights"]["vae"][name], name)

    def _loss(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        mean, log_scale = self._net.posterior(x)
        z = mean + torch.exp(log_scale) * (torch.randn_like(mean) if noise is None else noise[0])
        error = torch.sum((x - 0.5 - self._net.decoder(z)) ** 2)  # an output of 0 is the middle of the range
        kl = torch.sum(torch.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale)
        return 0.5 * ((error + kl) / len(x) + math.log(2 * math.pi) * x[0].numel())


class Compiled(Eager):
    """``Eager`` under torch.compile."""

    compiled = True
