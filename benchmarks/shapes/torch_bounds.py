"""Importance-weighted bounds in PyTorch: as an objective, and of thousands of samples as an estimate, also by Pythae."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import workloads
from peers import torch_device
from peers.torch_loop import Eager as Training
from peers.torch_networks import Autoencoder
from torch.nn import functional
from workloads import Workload

from shapes.sizes import CHUNK, SAMPLES


def log_weights(net: Autoencoder, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return log p(x, z) - log q(z|x), [k, b], of samples with this noise [k, b, d]."""
    mean, log_scale = net.posterior(x)
    z = mean + torch.exp(log_scale) * noise
    logits = net.decoder(z.flatten(0, 1)).flatten(1).reshape(*z.shape[:2], -1)
    targets = x.permute(0, 2, 3, 1).flatten(1).expand_as(logits)
    log_px = -functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(-1)
    # the normalisers of prior and posterior cancel but for the scales
    return log_px + (0.5 * (noise.square() - z.square()) + log_scale).sum(-1)


class Eager(Training):
    """An IWAE in training."""

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        self._samples, self._latents = workload.config["num_samples"], workload.config["latent_dim"]
        super().__init__(workload, batch_size, precision, platform)

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights."""
        self._net.load(parity["weights"]["vae"])

    def _loss(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        if noise is None:
            noise = torch.randn(self._samples, len(x), self._latents, device=x.device)
        bound = torch.logsumexp(log_weights(self._net, x, noise), dim=0) - math.log(self._samples)
        return -bound.mean()


class Compiled(Eager):
    """``Eager`` under torch.compile."""

    compiled = True


class Bound:
    """Importance bounds of images one after the other, ``CHUNK`` samples at a time."""

    compiled = False

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        self._device = torch.device(torch_device(platform))
        self._latents = workload.config["latent_dim"]
        self._net = Autoencoder(workload).to(self._device)
        images = workloads.arrays(workload, batch_size)["x"][:batch_size].astype(np.float32)
        self._images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(self._device)
        self._log_weights = torch.compile(log_weights, fullgraph=True) if self.compiled else log_weights
        self.properties: dict[str, Any] = {"compile_seconds": None}

    def bounds(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Return the bounds of images, [b]; with noise [b, k, d], of k samples with this noise."""
        bounds = []
        for index in range(len(x)):
            image, draws = x[index : index + 1], None if noise is None else noise[index].split(CHUNK)
            count = SAMPLES // CHUNK if draws is None else len(draws)
            parts = []
            for chunk in range(count):
                fresh = torch.randn(CHUNK, self._latents, device=self._device) if draws is None else draws[chunk]
                parts.append(self._log_weights(self._net, image, fresh[:, None]))
            bounds.append(torch.logsumexp(torch.cat(parts), dim=0) - math.log(CHUNK * count))
        return torch.cat(bounds)

    @torch.inference_mode()
    def check(self, parity: dict[str, Any]) -> list[float]:
        """Return the mean bounds of the two halves of vaex's images, by its draws."""
        self._net.load(parity["weights"]["vae"])
        x = torch.tensor(parity["x"]).permute(0, 3, 1, 2).contiguous().to(self._device)
        noise = torch.tensor(parity["noise"]).to(self._device)
        half = len(x) // 2
        return [self._mean(x[:half], noise[:half]), self._mean(x[half:], noise[half:])]

    def _mean(self, x: torch.Tensor, noise: torch.Tensor | None) -> float:
        return self.bounds(x, noise).mean().item()

    @torch.inference_mode()
    def run(self, steps: int) -> None:
        """Estimate the bounds of the batch ``steps`` times."""
        for _ in range(steps):
            self._mean(self._images, None)  # whose number waits for the device


class CompiledBound(Bound):
    """``Bound`` with a chunk's log weights under torch.compile."""

    compiled = True


class PythaesBound(Bound):
    """Pythae's ``get_nll``, ``CHUNK`` samples at a time instead of its 100, in inference mode."""

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        super().__init__(workload, batch_size, precision, platform)
        from peers.pythae_trainer import Decoder, Encoder
        from pythae.models import VAE, VAEConfig

        h, w, c = workload.shape
        config = VAEConfig(input_dim=(c, h, w), latent_dim=self._latents, reconstruction_loss="bce")
        self._model: Any = VAE(config, Encoder(self._net), Decoder(self._net)).to(self._device)

    def _mean(self, x: torch.Tensor, noise: torch.Tensor | None) -> float:
        if noise is None:
            return float(self._model.get_nll(x, n_samples=SAMPLES, batch_size=CHUNK))
        draws = iter(noise.flatten(0, 1).split(CHUNK))

        def sample(mean: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            fresh = next(draws)
            return mean + fresh * scale, fresh

        self._model._sample_gauss = sample
        bound = float(self._model.get_nll(x, n_samples=noise.shape[1], batch_size=CHUNK))
        del self._model._sample_gauss
        return bound
