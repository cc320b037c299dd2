"""Predictions of moving sprites by models of sequences, beside two baselines without latents.

    python experiments/sequences.py                             # the test sequences, three seeds; fifteen minutes on two cores
    python experiments/sequences.py --split=validation --seeds=1 --models=td_vae --options=pairs=4,pairs=8

Every model is trained with the same networks on as many sequences, which are new at every step. Log p of the frame 1, 5 and 10
ahead given the first six of 16, in nats, with 100 samples of the latents; mean over the split's first sequences, and its mean and
standard error over seeds.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaex
from vaex.api.run import Run
from vaex.data.synthetic.moving_sprites import moving_sprites
from vaex.evaluation.prediction import context_frames, fit_baselines, horizons, predictive_log_likelihood
from vaex.schedules import cosine

LENGTH, SIDE, NETWORKS = 16, 16, {"network": "mlp", "hidden": (256,), "recurrent": 256}
SPLITS = {"validation": 1, "test": 2}


def train(data: str, name: str, options: dict[str, Any], steps: int, batch_size: int, seed: int) -> Run:
    """Train a model on sequences whose order has the model's seed."""
    options = {**NETWORKS, "image_size": SIDE, "sequence_length": LENGTH, "data_seed": seed, **options}
    rate = {"learning_rate": cosine(1e-3, 1e-5, steps)}
    return vaex.train(name, data, steps=steps, batch_size=batch_size, seeds=seed, progress=False, **{**rate, **options})


def evaluate(run: Run, x: np.ndarray, chunk: int = 100) -> list[float]:
    """Return the mean log-likelihood of the frame at each horizon, nats."""
    sequences, (start, means) = run.recipe.sequences, (context_frames(LENGTH), [])
    assert sequences is not None
    for steps in horizons(LENGTH):
        function = predictive_log_likelihood(sequences.predict, steps=steps)
        values = []
        for first in range(0, len(x), chunk):
            part = jnp.asarray(x[first : first + chunk], jnp.float32)
            keys = jax.random.split(jax.random.fold_in(jax.random.key(1), first), len(part))
            context, target = part[:, :start], part[:, start - 1 + steps]
            values.append(np.asarray(function(keys, run.variables, run.hparams, context, target)))
        means.append(float(np.mean(np.concatenate(values))))
    return means


def parse_options(text: str) -> dict[str, Any]:
    """Return the options of a text such as "pairs=8:beta=1.0"."""
    pairs = [part.split("=") for part in text.split(":") if part]
    return {name: float(value) if "." in value else int(value) for name, value in pairs}


def row(label: str, values: np.ndarray) -> str:
    """Return a line of the table; ``values`` [seeds, horizons]."""
    error = values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.full(values.shape[1], np.nan)
    return f"| {label} | " + " | ".join(f"{m:.1f} ± {e:.1f}" for m, e in zip(values.mean(0), error, strict=True)) + " |"


def main(arguments: list[str] | None = None) -> None:
    """Train, evaluate and print one table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="bouncing_sprites,rotating_sprites")
    parser.add_argument("--models", default="td_vae,sequence_vae")
    parser.add_argument(
        "--options", default="", help="of the models, such as pairs=8:beta=1.0; several, with commas, in turn"
    )
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--sequences", type=int, default=500)
    flags = parser.parse_args(arguments)
    for data in flags.data.split(","):
        source = moving_sprites(data, SIDE, LENGTH)
        x = source.held_out(SPLITS[flags.split], flags.sequences)
        start = context_frames(LENGTH)
        baselines = fit_baselines(np.asarray(source.held_out(0, 1000)), horizons(LENGTH))
        print(f"{data}, {flags.split}", flush=True)
        copied = [baselines.copy_last(x[:, start - 1], x[:, start - 1 + k], k).mean() for k in horizons(LENGTH)]
        mean = [baselines.independent(x[:, start - 1 + k]).mean() for k in horizons(LENGTH)]
        print(
            row("last frame with flips", np.array([copied])), row("mean frame", np.array([mean])), sep="\n", flush=True
        )
        for name in flags.models.split(","):
            for text in flags.options.split(","):
                began, values = time.time(), []
                for seed in range(flags.seeds):
                    options = parse_options(text)
                    trained = train(data, name, options, flags.steps, flags.batch_size, seed)
                    values.append(evaluate(trained, x))
                print(row(f"{name} {text}", np.array(values)), f"{time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
