"""Overhead of the framework: its training step against a hand-written one in raw JAX, same network, data and optimizer.

All run the same number of steps per call, from data on the device; their losses must agree. The hand-written step draws its
noise with jax.random, and in a second version with ``vaex.ops.threefry``, as the framework does:
``python benchmarks/overhead.py``
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from measure import interleave

from vaex import data
from vaex.data.spec import Spec
from vaex.models.autoencoders import vae
from vaex.ops.threefry import unrolled
from vaex.training import loop, population
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import with_inputs

FRAMEWORK, HAND, SAME_KEYS = "framework", "hand-written", "hand-written, unrolled keys"
NETWORKS = {  # name -> (pixels on a side, hidden widths, latents, batch, steps per repeat)
    "tiny 64-64-8": (8, (64,), 8, 64, 4000),
    "default 64-256-256-10": (8, (256, 256), 10, 128, 1000),
    "mlp 784-512-16": (28, (512,), 16, 100, 200),
    "mlp 784-500-500-50": (28, (500, 500), 50, 100, 100),
}


def hand_written(resident, latents: int, keys: Callable[[jax.Array], jax.Array] = lambda key: key):
    """Return a VAE's training loop in plain jax: binarise, encode, sample, decode, Adam; ``keys`` maps the key of a step."""
    pixels = math.prod(resident["x"].shape[1:])

    def mlp(params, x):
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
        return x @ params[-1]["kernel"] + params[-1]["bias"]

    def loss(params, key, x):
        raw = mlp(params["encoder"], x)
        mean, log_scale = raw[:, :latents], 7.0 * jnp.tanh(raw[:, latents:] / 7.0)
        z = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape)
        logits = mlp(params["decoder"], z)
        log_px = -jnp.sum(jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits))), axis=-1)
        kl = 0.5 * jnp.sum(jnp.exp(2 * log_scale) + mean**2 - 1 - 2 * log_scale, axis=-1)
        return jnp.mean(kl - log_px), (jnp.mean(log_px - kl), jnp.mean(kl), jnp.mean(-log_px))

    def step(carry, rows):
        params, first, second, count, key = carry
        data_key, noise = jax.random.split(jax.random.fold_in(keys(key), count))
        grey = resident["x"][rows].reshape(len(rows), pixels).astype(jnp.float32) / 255
        x = jax.random.bernoulli(data_key, grey).astype(jnp.float32)
        (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(params, noise, x)
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        c1, c2 = 1 - 0.9**count, 1 - 0.999**count
        params = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), params, first, second)
        return (params, first, second, count, key), (value, *terms)

    return jax.jit(lambda carry, plan: jax.lax.scan(step, carry, plan), donate_argnums=0)


def layers(params) -> list[dict[str, jax.Array]]:
    """Return a Linen MLP's parameters, of the first member, as a list of layers."""
    hidden = sorted((name for name in params if name.startswith("hidden")), key=lambda name: int(name.split("_")[1]))
    return [jax.tree.map(lambda leaf: jnp.copy(leaf[0]), params[name]) for name in [*hidden, "output"]]


def compare(name: str, repeats: int) -> dict[str, float | str | int]:
    """Time the loops on one network, interleaved; their first losses must agree, since they start from equal parameters."""
    side, hidden, latents, batch, steps = NETWORKS[name]
    arrays = {"x": np.random.default_rng(0).integers(0, 256, (2000, side, side, 1), np.uint8)}
    spec = data.resolve(Spec("random", (side, side, 1), "grey", levels=256), binarize="dynamic")
    feed = data.resident_feed(arrays, batch, 0)
    recipe = vae.build(vae.Config(latent_dim=latents, hidden=hidden), spec)
    stepper = with_inputs(recipe.stages[0].algorithm, lambda key, x: data.prepare(spec, key, x))
    hparams = population.stack([as_schedules(vae.HParams())])
    state = population.init(stepper, [0], hparams, {"x": jnp.asarray(arrays["x"][:batch])})
    start = state.variables.params["vae"]
    params = {"encoder": layers(start["encoder"]), "decoder": layers(start["decoder"])}
    ours_program, ours = loop.compile_program(stepper, feed, state, log_every=100, strategy="solo")

    def start_by_hand():
        zeros = jax.tree.map(jnp.zeros_like, params)
        return (
            jax.tree.map(jnp.copy, params),
            zeros,
            jax.tree.map(jnp.copy, zeros),
            jnp.zeros((), jnp.int32),
            jax.random.key(0),
        )

    programs = {HAND: hand_written(feed.resident, latents), SAME_KEYS: hand_written(feed.resident, latents, unrolled)}
    carries = {name: start_by_hand() for name in programs}
    done = dict.fromkeys((FRAMEWORK, *programs), 0)
    first: dict[str, float] = {}

    def framework() -> None:
        nonlocal ours
        ours, chunk = loop.run_chunk(ours_program, ours, done[FRAMEWORK], done[FRAMEWORK] + steps)
        done[FRAMEWORK] += steps
        first.setdefault(FRAMEWORK, float(chunk.last[0, ours_program.metric_names.index("loss")]))
        jax.block_until_ready(ours)

    def by_hand(name: str) -> None:
        carries[name], values = programs[name](carries[name], feed.plan(done[name], steps))
        done[name] += steps
        first.setdefault(name, float(values[0][-1]))
        jax.block_until_ready(carries[name])

    run = {FRAMEWORK: framework} | {name: functools.partial(by_hand, name) for name in programs}
    timings = interleave(run, repeats=repeats)
    # the noise differs, so the losses after one call agree only statistically
    assert all(abs(value - first[HAND]) < 0.05 * abs(first[HAND]) for value in first.values()), first
    seconds = {name: timing.median for name, timing in timings.items()}
    return {
        "network": name,
        "framework_steps_per_second": steps / seconds[FRAMEWORK],
        "hand_written_steps_per_second": steps / seconds[HAND],
        "overhead": seconds[FRAMEWORK] / seconds[HAND] - 1,
        "same_keys_steps_per_second": steps / seconds[SAME_KEYS],
        "overhead_same_keys": seconds[FRAMEWORK] / seconds[SAME_KEYS] - 1,
        "spread": max(timing.spread for timing in timings.values()),
        "dropped": max(timing.dropped for timing in timings.values()),
        "repeats": repeats,
    }


def main() -> None:
    """Print a Markdown table; with --out write JSON as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--out", type=pathlib.Path, help="write the numbers as JSON")
    flags = parser.parse_args()
    print(
        "| network | framework, steps/s | hand-written | overhead | with vaex.ops.threefry | overhead | spread | repeats dropped |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for name in NETWORKS:
        row = compare(name, flags.repeats)
        rows.append(row)
        print(
            f"| {name} | {row['framework_steps_per_second']:,.0f} | {row['hand_written_steps_per_second']:,.0f} | "
            f"{row['overhead']:+.1%} | {row['same_keys_steps_per_second']:,.0f} | {row['overhead_same_keys']:+.1%} | "
            f"±{row['spread']:.1%} | {row['dropped']} of {row['repeats']} |",
            flush=True,
        )
    if flags.out:
        flags.out.write_text(
            json.dumps({"device": jax.devices()[0].device_kind, "jax": jax.__version__, "rows": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
