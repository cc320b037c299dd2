"""Stock Flax: Linen's own layers, optax's Adam, one jitted step with donation, called from a Python loop."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import workloads
from measure import program_bytes
from workloads import Workload

from peers.flax_networks import networks


class Loop:
    """A VAE in training, as Flax's examples write it."""

    def __init__(self, workload: Workload, batch_size: int, precision: str, platform: str):
        self._encoder, self._decoder, self._latents = networks(workload)
        self._workload, self._precision = workload, jnp.dtype(precision)
        self._optimizer = optax.adam(1e-3)
        self._data = jnp.asarray(workloads.arrays(workload, batch_size)["x"])
        order = np.random.default_rng(0).permutation(len(self._data)).astype(np.int32)
        self._rows = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
        self._step, self._at = None, 0
        self.properties: dict[str, Any] = {"compile_seconds": None, "memory_bytes": None}
        self._state = self._initial(jax.random.key(0))

    def _initial(self, key: jax.Array) -> Any:
        x = jnp.zeros((1, *self._workload.shape))
        if self._workload.config.get("network", "mlp") == "mlp" and self._workload.model != "residual":
            x = x.reshape(1, -1)
        params = {
            "encoder": jax.jit(self._encoder.init)(key, x)["params"],
            "decoder": jax.jit(self._decoder.init)(key, self._grid(jnp.zeros((1, self._latents))))["params"],
        }
        return params, self._optimizer.init(params), key

    def _grid(self, z: jax.Array) -> jax.Array:
        if self._workload.model != "residual":
            return z
        return z.reshape(-1, *self._workload.shape[:2], self._workload.config["latent_channels"])

    def _loss(self, params: Any, x: jax.Array, noise: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda leaf: leaf.astype(self._precision), params)
        flat = self._workload.config.get("network", "mlp") == "mlp" and self._workload.model != "residual"
        inputs = (x.reshape(len(x), -1) if flat else x).astype(self._precision)
        raw: Any = self._encoder.apply({"params": params["encoder"]}, inputs)
        mean, raw = (half.reshape(len(x), -1).astype(jnp.float32) for half in jnp.split(raw, 2, axis=-1))
        log_scale = 7.0 * jnp.tanh(raw / 7.0)
        z = self._grid((mean + jnp.exp(log_scale) * noise).astype(self._precision))
        logits: Any = self._decoder.apply({"params": params["decoder"]}, z)
        logits = logits.reshape(x.shape).astype(jnp.float32)
        cross_entropy = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, x))
        kl = 0.5 * jnp.sum(jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale)
        return (cross_entropy + kl) / len(x)

    def _update(self, params: Any, opt_state: Any, x: jax.Array, noise: jax.Array) -> tuple[Any, Any, jax.Array]:
        loss, gradient = jax.value_and_grad(self._loss)(params, x, noise)
        updates, opt_state = self._optimizer.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    def check(self, parity: dict[str, Any]) -> list[float]:
        """Return the two losses of ``vaex_loop.parity``, in full float32."""
        precision, self._precision = self._precision, jnp.dtype("float32")
        params = {side: jax.tree.map(jnp.asarray, parity["weights"][side]) for side in ("encoder", "decoder")}
        opt_state, losses = self._optimizer.init(params), []
        with jax.default_matmul_precision("highest"):
            update = jax.jit(self._update)
            for noise in parity["noise"]:
                params, opt_state, loss = update(params, opt_state, jnp.asarray(parity["x"]), jnp.asarray(noise))
                losses.append(float(loss))
        self._precision = precision
        return losses

    def _one_step(self, state: Any, data: jax.Array, rows: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state, key = state
        key, noise_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (len(rows), self._latents))
        params, opt_state, loss = self._update(params, opt_state, data[rows].astype(jnp.float32), noise)
        return (params, opt_state, key), loss

    def run(self, steps: int) -> None:
        """Train ``steps`` steps and wait for them."""
        if self._step is None:
            began = time.perf_counter()
            step = jax.jit(self._one_step, donate_argnums=0)
            self._step = step.lower(self._state, self._data, self._rows[0]).compile()
            self.properties["memory_bytes"] = program_bytes(self._step)
            self.properties["compile_seconds"] = time.perf_counter() - began
        for _ in range(steps):
            self._state, _ = self._step(self._state, self._data, self._rows[self._at % len(self._rows)])
            self._at += 1
        jax.block_until_ready(self._state)
