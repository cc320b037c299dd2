"""A VQ-VAE's transformer prior in PyTorch: its training on the codes of images, and sampling with a cache of keys and values."""

# pyright: reportMissingImports=false
# (an extra that few install)
from __future__ import annotations

from typing import Any

import torch
from peers import torch_device
from peers.torch_loop import Eager as Training
from peers.torch_networks import load_tree
from torch import nn
from torch.nn import functional
from workloads import Workload

from shapes import torch_vq
from shapes.sizes import DROPOUT, codes_of

Cache = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of each block, [b, heads, n, e]


def _norm(x: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], eps=1e-6)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self._heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.mixed = nn.Linear(width, width, bias=False)
        self.hidden, self.output = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def projected(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return queries, keys and values [b, heads, n, e] of features [b, n, width]."""
        joined = self.queries_keys_values(_norm(x)).view(*x.shape[:-1], 3, self._heads, -1)
        return [joined[..., index, :, :].transpose(1, 2) for index in range(3)]

    def branches(self, x: torch.Tensor, attended: torch.Tensor, drop: Any = lambda branch: branch) -> torch.Tensor:
        """Return x with both branches added, given what attention yields, [b, heads, n, e]."""
        x = x + drop(self.mixed(attended.transpose(1, 2).reshape(x.shape)))
        hidden = functional.gelu(self.hidden(_norm(x)), approximate="tanh")
        return x + drop(self.output(hidden))


class Transformer(nn.Module):
    """``vaex.nets.CausalTransformer`` of codes of one kind."""

    def __init__(self, workload: Workload):
        super().__init__()
        config, self.length = workload.config, codes_of(workload)
        self.codes, width, layers = config["codes"], config["prior_width"], config["prior_layers"]
        self.embedding = nn.Parameter(0.5 * torch.randn(1 + self.codes, width))  # row 0 is the start
        self.places = nn.Parameter(0.5 * torch.randn(self.length, width))
        self.weight = nn.Parameter(0.02 * torch.randn(width, self.codes))
        self.bias = nn.Parameter(torch.zeros(self.codes))
        self.blocks = nn.ModuleList(Block(width, config["prior_heads"]) for _ in range(layers))

    def load(self, weights: dict[str, Any]) -> None:
        """Take vaex's weights."""
        with torch.no_grad():
            self.embedding.copy_(torch.tensor(weights["embedding"]))
            self.places.copy_(torch.tensor(weights["places"]))
            self.weight.copy_(torch.tensor(weights["output"][0]))
            self.bias.copy_(torch.tensor(weights["bias"][0]))
        for index, block in enumerate(self.blocks):
            load_tree(block, weights[f"blocks_{index}"], f"blocks_{index}")

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Features to logits."""
        return _norm(x) @ self.weight + self.bias

    def forward(self, codes: torch.Tensor, factors: torch.Tensor | None = None) -> torch.Tensor:
        """[b, n] -> [b, n, codes]; dropout by factors [layers, 2, b, n, width] or, in training, of its own."""
        previous = functional.pad(1 + codes[:, :-1], (1, 0))
        x = functional.embedding(previous, self.embedding) + self.places
        for index, block in enumerate(self.blocks):
            attended = functional.scaled_dot_product_attention(*block.projected(x), is_causal=True)  # type: ignore[operator]
            given = None if factors is None else iter(factors[index])

            def drop(branch: torch.Tensor, given: Any = given) -> torch.Tensor:
                return functional.dropout(branch, DROPOUT, self.training) if given is None else branch * next(given)

            x = block.branches(x, attended, drop)  # type: ignore[operator]
        return self.logits(x)


class Network(nn.Module):
    """The prior in training, and the finished encoder and codebook beside it."""

    def __init__(self, workload: Workload):
        super().__init__()
        self.prior = Transformer(workload)
        self.coder = torch_vq.Network(workload, False, 1).eval().requires_grad_(False)

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights, and the autoencoder of its state."""
        self.prior.load(parity["weights"]["prior"])
        finished = parity["state"]
        self.coder.load({"weights": {"vae": finished["params"]}, "state": finished["state"]})

    def forward(self, x: torch.Tensor, factors: torch.Tensor | None) -> torch.Tensor:
        """Return -log p(codes) of images, a sum."""
        with torch.no_grad():
            z, _ = self.coder.vectors(x)
            codes = self.coder.codebook.nearest(z).view(len(x), -1)  # type: ignore[operator]
        return functional.cross_entropy(self.prior(codes, factors).flatten(0, 1), codes.flatten(), reduction="sum")


class Eager(Training):
    """The prior in training."""

    def network(self, workload: Workload) -> Network:
        """Return prior and coder; only the prior has gradients."""
        return Network(workload)

    def load(self, parity: dict[str, Any]) -> None:
        """Take vaex's weights."""
        self._net.load(parity)

    def _loss(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        return self._net(x, noise) / len(x)


class Compiled(Eager):
    """``Eager`` under torch.compile."""

    compiled = True


class Sampler:
    """Sequences drawn code by code; keys and values are kept, and attention reads those that are there."""

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        self._device = torch.device(torch_device(platform))
        self._net, self._batch_size = Transformer(workload).to(self._device), batch_size
        self.properties: dict[str, Any] = {"compile_seconds": None}

    def cache(self, n: int) -> Cache:
        """Return room for keys and values of n sequences."""
        block: Any = self._net.blocks[0]
        heads = block._heads
        shape = n, heads, self._net.length, self._net.places.shape[1] // heads
        return [
            (torch.zeros(shape, device=self._device), torch.zeros(shape, device=self._device)) for _ in self._net.blocks
        ]

    def step(self, previous: torch.Tensor, position: int, cache: Cache) -> torch.Tensor:
        """Return the logits of a position, [b, codes], given the codes before it, [b]; the cache gains the position."""
        net, row = self._net, 1 + previous if position else torch.zeros_like(previous)
        x = (functional.embedding(row, net.embedding) + net.places[position])[:, None]
        for block, (keys, values) in zip(net.blocks, cache, strict=True):
            query, key, value = block.projected(x)  # type: ignore[operator]
            keys[:, :, position], values[:, :, position] = key[:, :, 0], value[:, :, 0]
            there = keys[:, :, : position + 1], values[:, :, : position + 1]
            x = block.branches(x, functional.scaled_dot_product_attention(query, *there))  # type: ignore[operator]
        return net.logits(x)[:, 0]

    def sample(self, n: int, gumbel: torch.Tensor | None = None) -> torch.Tensor:
        """Draw sequences [n, length], with Gumbel noise [length, n, codes] where it is given."""
        previous, cache, drawn = torch.zeros(n, dtype=torch.long, device=self._device), self.cache(n), []
        for position in range(self._net.length):
            logits = self.step(previous, position, cache)
            if gumbel is None:  # the race of exponentials, which is faster than multinomial
                chances = torch.softmax(logits, -1)
                previous = (chances / torch.empty_like(chances).exponential_()).argmax(-1)
            else:
                previous = (logits + gumbel[position]).argmax(-1)
            drawn.append(previous)
        return torch.stack(drawn, 1)

    @torch.inference_mode()
    def check(self, parity: dict[str, Any]) -> list[float]:
        """Return -log p of vaex's codes, code by code with the cache, and the share of them that its noise draws here."""
        self._net.load(parity["weights"])
        codes = torch.tensor(parity["codes"]).long().to(self._device)
        cache, nats = self.cache(len(codes)), 0.0
        for position in range(codes.shape[1]):
            logits = self.step(codes[:, max(position - 1, 0)], position, cache)
            nats += functional.cross_entropy(logits, codes[:, position], reduction="sum").item()
        drawn = self.sample(len(codes), torch.tensor(parity["gumbel"]).to(self._device))
        return [nats / len(codes), (drawn == codes).float().mean().item()]

    @torch.inference_mode()
    def run(self, steps: int) -> None:
        """Draw ``steps`` batches."""
        for _ in range(steps):
            self.sample(self._batch_size)[0, 0].item()  # which waits for the device


class CompiledSampler(Sampler):
    """``Sampler`` with its step under torch.compile: attention reads all positions, those to come masked, so that shapes stay."""

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        super().__init__(workload, batch_size, precision, platform)
        self._compiled = torch.compile(self._static, fullgraph=True)

    def _static(self, row: torch.Tensor, position: torch.Tensor, cache: Cache) -> torch.Tensor:
        net = self._net
        x = (functional.embedding(row, net.embedding) + net.places[position])[:, None]
        visible = (torch.arange(net.length, device=row.device) <= position)[None]
        for block, (keys, values) in zip(net.blocks, cache, strict=True):
            query, key, value = block.projected(x)  # type: ignore[operator]
            keys[:, :, position], values[:, :, position] = key, value
            attended = functional.scaled_dot_product_attention(query, keys, values, attn_mask=visible)
            x = block.branches(x, attended)  # type: ignore[operator]
        return net.logits(x)[:, 0]

    def step(self, previous: torch.Tensor, position: int, cache: Cache) -> torch.Tensor:
        """Return the logits of a position."""
        row = 1 + previous if position else torch.zeros_like(previous)
        return self._compiled(row, torch.tensor([position], device=row.device), cache)
