"""Importance bounds of thousands of samples by ``vaex.evaluation.likelihood``, as vaex's command reports them."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import workloads
from measure import program_bytes
from vaex_loop import described, first_states, setup
from workloads import Workload

from shapes.sizes import CHUNK, SAMPLES
from shapes.vaex_side import plain
from vaex import distributions
from vaex.core import Variables
from vaex.evaluation.likelihood import log_likelihood
from vaex.schedules import resolve
from vaex.training import population

CHECKED, CHECKED_SAMPLES = 4, 2 * CHUNK


def _begun(workload: Workload, batch_size: int) -> tuple[Any, Variables, Any, dict[str, jax.Array]]:
    """Return the model, its first variables, its hyperparameters and images as it takes them."""
    stepper, _, hparams, example = setup(workload, batch_size, "float32")
    module, config, spec = described(workload, batch_size)
    state = population.member(first_states(workload, stepper, hparams, example), 0)
    model = module.build(config, spec).stages[workload.stage].model
    return model, state.variables, resolve(hparams, 0), {"x": example["x"].astype(jnp.float32)}


class Bound:
    """The bounds of a batch of images; ``properties`` describes the compiled program."""

    def __init__(self, workload: Workload, batch_size: int):
        model, self._variables, self._hparams, self._batch = _begun(workload, batch_size)
        began = time.perf_counter()
        estimate: Any = log_likelihood(model.log_weights, num_samples=SAMPLES, samples_per_chunk=CHUNK)
        arguments = (jax.random.key(0), self._variables, self._hparams, self._batch)
        self._program, self._calls = estimate.lower(*arguments).compile(), 0
        layers = workloads.multiplications(workload)
        decoder = sum(layers[len(layers) // 2 :])
        self.properties = {
            "compile_seconds": time.perf_counter() - began,
            "memory_bytes": program_bytes(self._program),
            "flops": 2.0 * batch_size * SAMPLES * decoder,  # XLA counts the body of a loop once
        }

    def run(self, steps: int) -> None:
        """Estimate the bounds of the batch ``steps`` times."""
        for _ in range(steps):
            key = jax.random.key(self._calls)
            np.asarray(self._program(key, self._variables, self._hparams, self._batch))
            self._calls += 1


def parity(workload: Workload) -> dict[str, Any]:
    """Estimate the bounds of a few images, for peers to repeat.

    Returns: "weights", "x" [b, h, w, c]; "noise" [b, k, d]; "losses" [2], the mean bounds of each half of the images.
    """
    with jax.default_matmul_precision("highest"):
        model, variables, hparams, batch = _begun(workload, CHECKED)
        keys = jax.random.split(jax.random.key(0), CHECKED)
        estimate = log_likelihood(model.log_weights, num_samples=CHECKED_SAMPLES, samples_per_chunk=CHUNK)
        bounds = np.asarray(estimate(keys, variables, hparams, batch))
    zeros = jnp.zeros((1, workload.config["latent_dim"]))
    unit = distributions.Normal(zeros, log_scale=zeros)

    def draws(key: jax.Array) -> np.ndarray:
        chunks = range(CHECKED_SAMPLES // CHUNK)
        return np.concatenate(
            [np.asarray(unit.sample(jax.random.fold_in(key, chunk), (CHUNK,)))[:, 0] for chunk in chunks]
        )

    half = CHECKED // 2
    losses = [float(bounds[:half].mean()), float(bounds[half:].mean())]
    noise = np.stack([draws(key) for key in keys])
    return {"weights": plain(variables.params), "x": np.asarray(batch["x"]), "noise": noise, "losses": losses}
