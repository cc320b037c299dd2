"""vaex's side of the shapes, in its worker process: what peers repeat first, and what is not a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from vaex_loop import PARITY_BATCH, first_states, setup
from workloads import Workload

from shapes.sizes import DROPOUT, codes_of
from vaex import distributions, nets
from vaex.models.sequences import _temporal_difference as td
from vaex.training import population

Draw = Callable[[Workload, jax.Array], Any]


def _normal(workload: Workload, key: jax.Array) -> np.ndarray:
    """Noise of the latents' samples, [k, b, d]."""
    zeros = jnp.zeros((PARITY_BATCH, workload.config["latent_dim"]))
    noise = distributions.Normal(zeros, log_scale=zeros).sample(key, (workload.config.get("num_samples", 1),))
    return np.asarray(noise)


def _none(workload: Workload, key: jax.Array) -> np.ndarray:
    return np.zeros(0, np.float32)


def _dropout(workload: Workload, key: jax.Array) -> np.ndarray:
    """Factors of a prior's branches, [layers, 2, b, n, width]."""
    config = workload.config
    shape = (config["prior_layers"], 2, PARITY_BATCH, codes_of(workload), config["prior_width"])
    return np.asarray(nets.Dropout(key, jnp.float32(DROPOUT)).factors(shape))


def _hierarchy(workload: Workload, key: jax.Array) -> np.ndarray:
    """Noise of all layers of a hierarchy, the uppermost first, [b, d]."""
    config, (height, width, _) = workload.config, workload.shape
    blocks = [tuple(map(int, block.split("x"))) for block in config["blocks"].split(",")]
    ratio = width / height
    size = sum(side * round(side * ratio) * cells for side, cells in blocks) * config["latent_channels"]
    return np.asarray(jax.random.normal(key, (PARITY_BATCH, size)))


def _pairs(workload: Workload, key: jax.Array) -> dict[str, np.ndarray]:
    """Pairs of times, "start" and "jump" [b, j], and the noise of later and earlier latents, [layers, b, j, d / layers]."""
    config, length = workload.config, workload.shape[0]
    pairs_key, key = jax.random.split(key)
    times = jnp.broadcast_to(jnp.arange(length + 1)[:, None], (PARITY_BATCH, length + 1, 1))
    pairs = td.draw_pairs(pairs_key, times, times[:, 1:], config["pairs"], config["max_jump"])
    zeros = jnp.zeros((*pairs.jump.shape, config["latent_dim"] // config["layers"]))
    unit = distributions.Normal(zeros, log_scale=zeros)

    def layers(key: jax.Array) -> np.ndarray:
        return np.stack([np.asarray(unit.sample(jax.random.fold_in(key, layer))) for layer in range(config["layers"])])

    later_key, earlier_key = jax.random.split(key)
    times_drawn = {"start": np.asarray(pairs.before[..., 0]), "jump": np.asarray(pairs.jump)}
    return {**times_drawn, "later": layers(later_key), "earlier": layers(earlier_key)}


DRAWS: dict[str, Draw] = {
    "none": _none,
    "normal": _normal,
    "dropout": _dropout,
    "hierarchy": _hierarchy,
    "pairs": _pairs,
}


def plain(tree: Any) -> Any:
    """Return nested dicts of NumPy arrays, which a process without vaex can read; records become dicts."""
    if hasattr(tree, "_asdict"):
        tree = tree._asdict()
    if isinstance(tree, dict):
        return {name: plain(part) for name, part in tree.items()}
    return [plain(part) for part in tree] if isinstance(tree, list | tuple) else np.asarray(tree)


def parity(workload: Workload, draws: str) -> dict[str, Any]:
    """Train vaex for two steps on one batch, for peers to repeat.

    Args:
      workload: whose stage is trained.
      draws: name of what a step draws, of ``DRAWS``.
    Returns: "weights" and "state", parameters and state before the first step; "x" [b, h, w, c]; "noise", a list of what each
      step draws; "losses"
      [2], each before its update.
    """
    # all steps in full float32: what is compared is the mathematics, not the rounding of faster products
    with jax.default_matmul_precision("highest"):
        stepper, _, hparams, example = setup(workload, PARITY_BATCH, "float32")
        state = population.member(first_states(workload, stepper, hparams, example), 0)
        begun = {"weights": plain(state.variables.params), "state": plain(state.variables.state)}
        noise, losses, advance = [], [], jax.jit(stepper.step)
        for step in range(2):
            noise.append(DRAWS[draws](workload, jax.random.fold_in(state.key, step)))
            state, metrics = advance(state, example)
            losses.append(float(metrics["loss"]))
    x = np.asarray(example["x"], np.float32) / ((workload.levels or 2) - 1)
    return {**begun, "x": x, "noise": noise, "losses": losses}
