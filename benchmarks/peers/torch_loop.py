"""PyTorch: data on the device, fused Adam, convolutions channels_last; eager or under torch.compile."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

import pathlib
import shutil
import time
import warnings
from typing import Any

import numpy as np
import torch
import workloads
from torch.nn import functional
from workloads import Workload

from peers import torch_device
from peers.torch_networks import Autoencoder
from vaex.errors import UserError

warnings.filterwarnings("ignore", message="Converting a tensor with requires_grad")


class Eager:
    """A VAE in training, as a careful PyTorch user writes it."""

    compiled = False
    fullgraph = True

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        self._device = torch.device(torch_device(platform))
        # as jax on GPUs by default: float32 products may round their inputs to TF32
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(0)
        self._resident_before = _resident("VmRSS")
        self._half = precision == "bfloat16"
        self._net = self.network(workload).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.Adam(self._net.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, fused=True)
        images = workloads.arrays(workload, batch_size)["x"].astype(np.float32) / ((workload.levels or 2) - 1)
        self._data = self.placed(images)
        order = torch.randperm(len(images))[: len(images) // batch_size * batch_size]
        self._rows = order.reshape(-1, batch_size).to(self._device)
        self._forward = self._loss
        self.properties: dict[str, Any] = {"compile_seconds": None}
        self._started = False

    def network(self, workload: Workload) -> Any:
        """Return the network to train, a module with ``load``."""
        return Autoencoder(workload)

    def _loss(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            mean, log_scale = self._net.posterior(x)
            z = mean + torch.exp(log_scale) * (torch.randn_like(mean) if noise is None else noise)
            logits = self._net.decoder(z)
        mean, log_scale = mean.float(), log_scale.float()
        cross_entropy = functional.binary_cross_entropy_with_logits(logits.float(), x, reduction="sum")
        kl = 0.5 * torch.sum(torch.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale)
        return (cross_entropy + kl) / len(x)

    def _update(self, loss: torch.Tensor) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()

    def check(self, parity: dict[str, Any]) -> list[float]:
        """Return the two losses of ``vaex_loop.parity``, in full float32."""
        self.load(parity)
        x = self.placed(parity["x"])
        half, self._half = self._half, False
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        losses = []
        for noise in parity["noise"]:
            loss = self._loss(x, self.drawn(noise))
            losses.append(loss.item())
            self._update(loss)
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        self._half = half
        return losses

    def placed(self, images: np.ndarray) -> torch.Tensor:
        """Return images [n, h, w, c] on the device, as the network takes them."""
        return torch.tensor(images).permute(0, 3, 1, 2).to(self._device, memory_format=torch.channels_last)

    def drawn(self, noise: Any) -> Any:
        """Return what one of vaex's steps drew, on the device."""
        return torch.tensor(noise).to(self._device)

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights."""
        self._net.load(parity["weights"])

    def run(self, steps: int) -> None:
        """Train ``steps`` steps and wait for them."""
        if not self._started:
            self._start()
        for step in range(steps):
            self._update(self._forward(self._data[self._rows[step % len(self._rows)]]))
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.properties["memory_bytes"] = self._memory()

    def _start(self) -> None:
        """Train the first two steps, in which everything is compiled and allocated."""
        self._started = True
        if self.compiled:
            if self._device.type == "cpu" and not (shutil.which("g++") or shutil.which("clang++")):
                raise UserError(
                    "--peers=torch_compile needs a C++ compiler on the CPU; install g++, or leave the peer out"
                )
            mode = "reduce-overhead" if self._device.type == "cuda" else None
            self._forward = torch.compile(self._loss, fullgraph=self.fullgraph, mode=mode)
        began = time.perf_counter()
        self.run(2)
        if self.compiled:
            self.properties["compile_seconds"] = time.perf_counter() - began
        _forget_peak()

    def _memory(self) -> int | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        peak = _resident("VmHWM")
        return None if peak is None or self._resident_before is None else peak - self._resident_before


class Compiled(Eager):
    """``Eager`` with its forward and backward pass compiled."""

    compiled = True


def _resident(name: str) -> int | None:
    """Return the bytes of this process's memory, now (VmRSS) or at most (VmHWM); None without /proc."""
    path = pathlib.Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def _forget_peak() -> None:
    """Reset VmHWM to what is resident now."""
    path = pathlib.Path("/proc/self/clear_refs")
    try:
        path.write_text("5")
    except OSError:
        return
