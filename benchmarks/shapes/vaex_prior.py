"""Sampling from a VQ-VAE's transformer prior by ``vaex.nets.sample_codes``."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import program_bytes
from workloads import Workload

from shapes.sizes import codes_of
from shapes.vaex_side import plain
from vaex import nets

CHECKED = 8


def _begun(workload: Workload) -> tuple[nets.CausalTransformer, Any]:
    """Return the prior's network and parameters with logits far enough apart to matter."""
    config, n = workload.config, codes_of(workload)
    net = nets.CausalTransformer(
        (0,) * n, config["codes"], *(config[f"prior_{x}"] for x in ("width", "layers", "heads"))
    )
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, n), jnp.int32))["params"]
    return net, {**params, "output": 10.0 * params["output"]}


class Sampler:
    """Draws batches of sequences of codes; ``properties`` describes the compiled program."""

    def __init__(self, workload: Workload, batch_size: int):
        net, self._params = _begun(workload)
        began = time.perf_counter()
        draw = jax.jit(lambda params, key: nets.sample_codes(net, params, key, batch_size))
        self._program, self._calls = draw.lower(self._params, jax.random.key(0)).compile(), 0
        n, width = codes_of(workload), net.width
        products = net.layers * (12 * width**2 + 2 * width * (n + 1) / 2) + width * net.codes
        self.properties = {
            "compile_seconds": time.perf_counter() - began,
            "memory_bytes": program_bytes(self._program),
            "flops": 2.0 * batch_size * n * products,  # XLA counts the body of a loop once; attention to the past alone
        }

    def run(self, steps: int) -> None:
        """Draw ``steps`` batches."""
        for _ in range(steps):
            np.asarray(self._program(self._params, jax.random.key(self._calls)))
            self._calls += 1


def parity(workload: Workload) -> dict[str, Any]:
    """Draw a few sequences, for peers to repeat.

    Returns: "weights"; "codes" [b, n]; "gumbel" [n, b, codes], the noise that draws them; "losses" [2], their -log p and 1, the
      share of them that a peer should draw.
    """
    with jax.default_matmul_precision("highest"):
        net, params = _begun(workload)
        key = jax.random.key(1)
        codes = jax.jit(lambda: nets.sample_codes(net, params, key, CHECKED))()
        logits: Any = net.apply({"params": params}, codes)
    nats = -jnp.take_along_axis(jax.nn.log_softmax(logits), codes[..., None], axis=-1)
    shape = (CHECKED, net.codes)
    gumbel = np.stack([np.asarray(jax.random.gumbel(jax.random.fold_in(key, i), shape)) for i in range(codes.shape[1])])
    losses = [float(jnp.sum(nats) / CHECKED), 1.0]
    return {"weights": plain(params), "codes": np.asarray(codes), "gumbel": gumbel, "losses": losses}
