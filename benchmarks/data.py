"""Cost of feeding: a training step on streamed and on rendered batches, against the same step on resident data.

``python benchmarks/data.py`` streams random 28x28 images as many as MNIST has; ``--npz`` takes your own.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import interleave

from vaex import data
from vaex.core import Algorithm, Feed
from vaex.data.spec import Spec
from vaex.data.synthetic.factors import factor_feed
from vaex.data.synthetic.sprites import sprites
from vaex.models.autoencoders import vae
from vaex.training import loop, population
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import with_inputs

BATCH = 128  # of the streamed comparison


def trainer(feed: Feed, stepper: Algorithm, example: dict[str, jax.Array], steps: int) -> Callable[[], None]:
    """Return a function that trains ``steps`` more steps through ``loop.fit``, which reads batches ahead."""
    hparams = population.stack([as_schedules(vae.HParams())])
    state = population.init(stepper, [0], hparams, example)
    program, start = loop.compile_program(stepper, feed, state, log_every=100, strategy="solo")
    done, carry = 0, start

    def train() -> None:
        nonlocal done, carry
        carry = loop.fit(program, carry, done, done + steps)
        done += steps
        jax.block_until_ready(carry)

    return train


def compare(
    name: str, feeds: dict[str, Feed], spec: Spec, config: vae.Config, steps: int, repeats: int
) -> dict[str, Any]:
    """Measure steps per second of one network on two feeds of the same kind of images, interleaved; the first is the reference."""
    recipe = vae.build(config, spec)
    stepper = with_inputs(recipe.stages[0].algorithm, lambda key, x: data.prepare(spec, key, x))
    example = {"x": jnp.zeros((1, *spec.shape), jnp.uint8)}
    timings = interleave(
        {kind: trainer(feed, stepper, example, steps) for kind, feed in feeds.items()}, repeats=repeats
    )
    plain, other = (steps / timings[kind].median for kind in feeds)
    return {
        "what": name,
        "resident_steps_per_second": plain,
        "other_steps_per_second": other,
        "ratio": other / plain,
        "spread": max(timing.spread for timing in timings.values()),
        "dropped": max(timing.dropped for timing in timings.values()),
        "repeats": repeats,
    }


def streaming(images: np.ndarray, repeats: int) -> dict[str, Any]:
    """Compare an MLP on resident images with the same images streamed from a memory-mapped file."""
    spec = data.resolve(Spec("images", images.shape[1:], "grey", levels=256), binarize="dynamic")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "x.npy")
        np.save(path, images)
        arrays = {"x": np.load(path, mmap_mode="r")}
        feeds = {"resident": data.resident_feed(arrays, BATCH), "streamed": data.streamed_feed(arrays, BATCH)}
        config = vae.Config(latent_dim=16, hidden=(512,))
        return compare(f"streamed, mlp 784-512-16, batch {BATCH}", feeds, spec, config, 1000, repeats)


def rendering(repeats: int) -> dict[str, Any]:
    """Compare a convolutional VAE on resident 64x64 images with sprites rendered inside the step."""
    source = sprites()
    images = np.asarray(jax.jit(source.observe)(source.grid()[:: source.num_observations // 1000]))
    feeds = {"resident": data.resident_feed({"x": images}, 64), "rendered": factor_feed(source, 64)}
    config = vae.Config(network="conv", latent_dim=10, hidden=(256,))
    return compare("sprites rendered, conv 64x64, batch 64", feeds, source.spec, config, 20, repeats)


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
    rows = [streaming(images.reshape(*images.shape[:3], -1), flags.repeats), rendering(flags.repeats)]
    print("| what | resident, steps/s | this, steps/s | ratio | spread | repeats dropped |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['what']} | {row['resident_steps_per_second']:,.1f} | {row['other_steps_per_second']:,.1f} | "
            f"{row['ratio']:.1%} | ±{row['spread']:.1%} | {row['dropped']} of {row['repeats']} |"
        )
    if flags.out:
        flags.out.write_text(
            json.dumps({"device": jax.devices()[0].device_kind, "jax": jax.__version__, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
