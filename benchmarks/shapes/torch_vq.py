"""A VQ-VAE in PyTorch: its codebook in plain PyTorch, or vector-quantize-pytorch's."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

from typing import Any

import torch
from peers.torch_loop import Eager as Training
from peers.torch_networks import load_tree
from torch import nn
from torch.nn import functional
from workloads import Workload

from shapes.torch_layers import Dense, ResidualDecoder, ResidualEncoder, sizes

COMMITMENT, DECAY, SMOOTHING, DEAD_SHARE = 0.25, 0.99, 1e-5, 0.1  # vaex's defaults


class Codebook(nn.Module):
    """Codes that moving averages move, and that are put on vectors of the batch where they are hardly used."""

    codes: torch.Tensor
    counts: torch.Tensor
    sums: torch.Tensor

    def __init__(self, codes: int, dim: int):
        super().__init__()
        self.register_buffer("codes", torch.randn(codes, dim))
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", self.codes.clone())

    def load(self, state: dict[str, Any]) -> None:
        """Take vaex's codebook and averages."""
        self.codes.copy_(torch.tensor(state["codebook"][0]))
        self.counts.copy_(torch.tensor(state["counts"][0]))
        self.sums.copy_(torch.tensor(state["sums"][0]))

    def nearest(self, z: torch.Tensor) -> torch.Tensor:
        """[n, d] -> [n]."""
        return torch.addmm(self.codes.square().sum(1), z, self.codes.T, alpha=-2).argmin(1)

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return codes [n, d], whose gradient passes to z, and the sum of squared distances."""
        with torch.no_grad():
            indices = self.nearest(z)
            codes = functional.embedding(indices, self.codes)
            if self.training:
                self._update(z, indices)
        return z + (codes - z).detach(), (z - codes).square().sum()

    def _update(self, z: torch.Tensor, indices: torch.Tensor) -> None:
        number = len(self.counts)
        # which takes a CPU a small part of the time of products with one-hot rows
        counts = torch.zeros_like(self.counts).index_add_(0, indices, z.new_ones(len(z)))
        self.counts.lerp_(counts, 1 - DECAY)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, indices, z), 1 - DECAY)
        total = self.counts.sum()
        smooth = (self.counts + SMOOTHING) / (total + number * SMOOTHING) * total
        codes, mean = self.sums / smooth[:, None], total / number
        dead = self.counts < DEAD_SHARE * mean
        candidates = z[torch.randint(len(z), (number,), device=z.device)]
        self.codes.copy_(torch.where(dead[:, None], candidates, codes))
        self.sums.copy_(torch.where(dead[:, None], mean * candidates, self.sums))
        self.counts.copy_(torch.where(dead, mean, self.counts))


class Packaged(nn.Module):
    """vector-quantize-pytorch's ``VectorQuantize`` with the same settings; its mean squared distance becomes a sum."""

    def __init__(self, codes: int, dim: int, vectors: int):
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize

        self.layer = VectorQuantize(
            dim=dim,
            codebook_size=codes,
            decay=DECAY,
            eps=SMOOTHING,
            commitment_weight=1.0,
            rotation_trick=False,
            threshold_ema_dead_code=DEAD_SHARE * vectors / codes,
        )

    def load(self, state: dict[str, Any]) -> None:
        """Take vaex's codebook and averages."""
        book = self.layer._codebook
        book.embed.data.copy_(torch.tensor(state["codebook"]))
        book.cluster_size.data.copy_(torch.tensor(state["counts"]))
        book.embed_avg.data.copy_(torch.tensor(state["sums"]))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        codes, _, distance = self.layer(z[None])
        return codes[0], distance.sum() * z.numel()


class Network(nn.Module):
    """vaex's VQ-VAE of images with one level."""

    def __init__(self, workload: Workload, packaged: bool, vectors: int):
        super().__init__()
        config, (h, w, c) = workload.config, workload.shape
        stages = config["downsampling"].bit_length() - 1
        sides = sizes((h, w), stages)
        self.encoder = ResidualEncoder(c, config["channels"], stages, config["blocks"])
        self.head = Dense(config["channels"], config["code_dim"])
        self.decoder = ResidualDecoder(config["code_dim"], config["channels"], c, sides, config["blocks"])
        codes = config["codes"], config["code_dim"]
        self.codebook = Packaged(*codes, vectors) if packaged else Codebook(*codes)

    def vectors(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Size]:
        """Return the vectors to quantize, [b * h' * w', d], and the shape of their map, [b, h', w', d]."""
        grid = self.head(self.encoder(x).permute(0, 2, 3, 1))
        return grid.reshape(-1, grid.shape[-1]), grid.shape

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits and the sum of squared distances of vectors to their codes."""
        z, shape = self.vectors(x)
        codes, distance = self.codebook(z)
        return self.decoder(codes.reshape(shape).permute(0, 3, 1, 2)), distance

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights and codebook."""
        level = parity["weights"]["vae"]["level_0"]
        for name in ("encoder", "head", "decoder"):
            load_tree(getattr(self, name), level[name], name)
        self.codebook.load(parity["state"]["level_0"]["codebooks"])


class Eager(Training):
    """The VQ-VAE in training with a codebook in plain PyTorch."""

    packaged = False

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        self._batch_size = batch_size
        super().__init__(workload, batch_size, precision, platform)

    def network(self, workload: Workload) -> Network:
        """Return the network; dead codes of the package have a threshold that depends on the batch."""
        sides = sizes(workload.shape, workload.config["downsampling"].bit_length() - 1)[-1]
        return Network(workload, self.packaged, self._batch_size * sides[0] * sides[1])

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights and codebook."""
        self._net.load(parity)

    def _loss(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        logits, distance = self._net(x)
        cross_entropy = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        return (cross_entropy + COMMITMENT * distance) / len(x)


class Compiled(Eager):
    """``Eager`` under torch.compile."""

    compiled = True


class WithPackage(Eager):
    """The VQ-VAE with vector-quantize-pytorch's layer."""

    packaged = True
