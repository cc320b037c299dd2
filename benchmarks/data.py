"""What feeding costs: a training step on streamed batches against one on resident data, both from memory-mapped files.

``python benchmarks/data.py`` uses random 28x28 images in the amount of MNIST; ``--npz`` takes your own.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
from measure import interleave

from vaex import data
from vaex.data.spec import Spec
from vaex.models import vae
from vaex.training import algorithm, loop, population

BATCH, STEPS = 128, 1000


def trainer(feed, stepper, state):
    """A function that trains ``STEPS`` more steps through the loop's ``fit``, read ahead and all."""
    program, carry = loop.compile_program(stepper, feed, state, log_every=100, strategy="solo")
    at = [0, carry]

    def train() -> None:
        at[1] = loop.fit(program, at[1], at[0], at[0] + STEPS)
        at[0] += STEPS
        jax.block_until_ready(at[1])

    return train


def feeding(
    arrays: dict[str, np.ndarray], hidden: tuple[int, ...], latents: int, repeats: int
) -> dict[str, float | int]:
    """Steps per second of a VAE on resident and on streamed data, interleaved."""
    shape = arrays["x"].shape[1:]
    spec = data.resolve(Spec("images", shape, "grey", levels=256), binarize="dynamic")
    recipe = vae.build(vae.Config(latent_dim=latents, hidden=hidden), spec)
    stepper = algorithm.prepared(recipe.stages[0].algorithm, lambda key, x: data.prepare(spec, key, x))
    hparams = population.stack([algorithm.as_schedules(vae.HParams())])

    def run(feed):
        return trainer(feed, stepper, population.init(stepper, [0], hparams, {"x": jnp.asarray(arrays["x"][:BATCH])}))

    timings = interleave(
        {"resident": run(data.resident_feed(arrays, BATCH)), "streamed": run(data.streamed_feed(arrays, BATCH))},
        repeats=repeats,
    )
    return {
        "resident_steps_per_second": STEPS / timings["resident"].median,
        "streamed_steps_per_second": STEPS / timings["streamed"].median,
        "streamed_to_resident": timings["resident"].median / timings["streamed"].median,
        "spread": max(timing.spread for timing in timings.values()),
        "dropped": max(timing.dropped for timing in timings.values()),
        "repeats": repeats,
    }


def main() -> None:
    """Print a Markdown table; with --out write JSON as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--npz", type=pathlib.Path, help="a file with an array x_train (or x) [n, h, w] of uint8")
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--out", type=pathlib.Path, help="write the numbers as JSON")
    flags = parser.parse_args()
    if flags.npz:
        file = np.load(flags.npz)
        images = file["x_train" if "x_train" in file else "x"]
    else:
        images = np.random.default_rng(0).integers(0, 256, (60_000, 28, 28), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "x.npy")
        np.save(path, images.reshape(*images.shape[:3], -1))
        row = feeding({"x": np.load(path, mmap_mode="r")}, (512,), 16, flags.repeats)
    print("| network | resident, steps/s | streamed, steps/s | streamed / resident | spread | repeats dropped |")
    print("|---|---|---|---|---|---|")
    print(
        f"| mlp 784-512-16, batch {BATCH} | {row['resident_steps_per_second']:,.0f} | {row['streamed_steps_per_second']:,.0f} | "
        f"{row['streamed_to_resident']:.1%} | ±{row['spread']:.1%} | {row['dropped']} of {row['repeats']} |"
    )
    if flags.out:
        flags.out.write_text(
            json.dumps({"device": jax.devices()[0].device_kind, "jax": jax.__version__, **row}, indent=2)
        )


if __name__ == "__main__":
    main()
