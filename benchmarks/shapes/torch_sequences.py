"""TD-VAE in PyTorch: networks of frames, a recurrent network, beliefs, smoothing and transitions in layers of latents."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from peers.torch_loop import Eager as Training
from peers.torch_networks import LIMIT, load_tree
from torch import nn
from torch.nn import functional
from workloads import Workload

from shapes.torch_layers import Dense

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # mean and log scale of each, the uppermost first


def _log_prob(z: torch.Tensor, layers: Layers) -> torch.Tensor:
    """Return log densities [...] of latents [..., d] in nats."""
    mean, log_scale = (torch.cat(parts, -1) for parts in zip(*layers, strict=True))
    return (-0.5 * ((z - mean) * torch.exp(-log_scale)) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)


class Conditional(nn.Module):
    """Gaussian whose layers depend on a context and on the layers above, by an MLP each."""

    def __init__(self, width: int, config: Any):
        super().__init__()
        self.size = config["latent_dim"] // config["layers"]
        widths = [(width + layer * self.size, *config["hidden"], 2 * self.size) for layer in range(config["layers"])]
        self.maps = nn.ModuleList(Dense(*chain) for chain in widths)

    def layer(self, index: int, context: torch.Tensor, above: list[torch.Tensor], offset: torch.Tensor | None):
        """Return mean and log scale of a layer given those above it."""
        mean, raw = self.maps[index](torch.cat([context, *above], -1)).chunk(2, -1)
        mean = mean if offset is None else mean + offset[..., index * self.size : (index + 1) * self.size]
        return mean, LIMIT * torch.tanh(raw / LIMIT)

    def sample(self, context: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, Layers]:
        """Return latents of noise [layers, ..., d / layers], and the layers at them."""
        above, layers = [], []
        for index in range(len(self.maps)):
            layers.append(self.layer(index, context, above, None))
            above.append(layers[-1][0] + torch.exp(layers[-1][1]) * noise[index])
        return torch.cat(above, -1), layers

    def at(self, context: torch.Tensor, z: torch.Tensor, offset: torch.Tensor | None = None) -> Layers:
        """Return the layers at latents z."""
        split = list(z.split(self.size, -1))
        return [self.layer(index, context, split[:index], offset) for index in range(len(self.maps))]


class Network(nn.Module):
    """All networks of a TD-VAE of images by MLPs."""

    def __init__(self, workload: Workload):
        super().__init__()
        config = workload.config
        self.config, pixels = config, math.prod(workload.shape[1:])
        hidden, d, r = config["hidden"], config["latent_dim"], config["recurrent"]
        self.encoder = Dense(pixels, *hidden, hidden[0])
        self.decoder = Dense(d, *hidden[::-1], pixels)
        self.gru = nn.GRU(hidden[0], r, batch_first=True)  # whose gates are as vaex's
        self.belief = Conditional(r, config)
        self.smoothing = Conditional(d + 2 * r + config["max_jump"], config)
        self.transition = Conditional(d + config["max_jump"], config)

    def states(self, x: torch.Tensor) -> torch.Tensor:
        """Return beliefs before the first frame and after each of x [b, t, pixels], [b, t + 1, r]."""
        after, _ = self.gru(torch.relu(self.encoder(x)))
        return functional.pad(after, (0, 0, 1, 0))

    @torch.no_grad()
    def load(self, weights: dict[str, Any]) -> None:
        """Take vaex's weights."""
        for name in ("encoder", "decoder"):
            load_tree(getattr(self, name), weights[name], name)
        for name in ("belief", "smoothing", "transition"):
            for layer, module in enumerate(getattr(self, name).maps):
                load_tree(module, weights[name][layer], name)
        for side, ours in (("ih", "inputs"), ("hh", "recurrent")):
            getattr(self.gru, f"weight_{side}_l0").copy_(torch.tensor(weights["gru"][ours]["kernel"]).T)
            getattr(self.gru, f"bias_{side}_l0").copy_(torch.tensor(weights["gru"][ours]["bias"]))


class Eager(Training):
    """TD-VAE in training."""

    def network(self, workload: Workload) -> Network:
        """Return the networks."""
        self._config = workload.config
        return Network(workload)

    def placed(self, images: np.ndarray) -> torch.Tensor:
        """Return sequences [n, t, h, w, c] as [n, t, pixels] on the device."""
        return torch.tensor(images).flatten(2).to(self._device)

    def drawn(self, noise: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Return what one of vaex's steps drew, on the device."""
        return {name: torch.tensor(array).to(self._device) for name, array in noise.items()}

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights."""
        self._net.load(parity["weights"]["vae"])

    def _fresh(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Draw pairs of times, and the noise of their latents."""
        config, shape = self._config, (len(x), self._config["pairs"])
        jump = torch.randint(1, config["max_jump"] + 1, shape, device=x.device)
        start = (torch.rand(shape, device=x.device) * (x.shape[1] - jump + 1)).long()
        size = (2, config["layers"], *shape, config["latent_dim"] // config["layers"])
        later, earlier = torch.randn(size, device=x.device)
        return {"start": start, "jump": jump, "later": later, "earlier": earlier}

    def _loss(self, x: torch.Tensor, noise: Any = None) -> torch.Tensor:
        net, draws = self._net, self._fresh(x) if noise is None else noise
        start, jump = draws["start"].long(), draws["jump"].long()
        states, rows = net.states(x), torch.arange(len(x), device=x.device)[:, None]
        before, after, frame = states[rows, start], states[rows, start + jump], x[rows, start + jump - 1]
        jumps = functional.one_hot(jump - 1, self._config["max_jump"]).to(x.dtype)
        z2, belief = net.belief.sample(after, draws["later"])
        z1, smoothed = net.smoothing.sample(torch.cat([z2, before, after, jumps], -1), draws["earlier"])
        ahead = net.transition.at(torch.cat([z1, jumps], -1), z2, z1)
        kl = torch.zeros((), device=x.device)
        for (mean, log_scale), (prior_mean, prior_log_scale) in zip(smoothed, net.belief.at(before, z1), strict=True):
            ratio = log_scale - prior_log_scale
            squares = torch.exp(2 * ratio) + ((mean - prior_mean) * torch.exp(-prior_log_scale)) ** 2
            kl = kl + 0.5 * (squares - 1 - 2 * ratio).sum()
        surprise = (_log_prob(z2, belief) - _log_prob(z2, ahead)).sum()
        nats = functional.binary_cross_entropy_with_logits(net.decoder(z2), frame, reduction="sum")
        return (nats + surprise + kl) / jump.numel()


class Compiled(Eager):
    """``Eager`` under torch.compile, which leaves the recurrent network to PyTorch's own kernel."""

    compiled = True
    fullgraph = False
