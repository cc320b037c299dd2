"""Whether training on this accelerator computes what it computes on the CPU: steps of every model, resuming, populations.

    python benchmarks/accelerators/check.py --out=results
    python benchmarks/accelerators/check.py --models=vae,vq_vae --minutes=2

Each stage of each model takes two steps on the device and on the CPU of this process, from the same state, batches and keys,
products in full float32. The losses must agree to 1e-4, and to 1e-3 after the update, in which rounding can flip a sign. Then the
loop of three networks trains with and without a break, which must give the same bits, and members at once must train as alone.
A model that --minutes does not reach is named.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import tables
import vaex_loop
import workloads
from console import guarded, heading, names, say

from accelerators import programs
from vaex import files, models
from vaex.core import TrainState
from vaex.errors import UserError
from vaex.training import loop, population

BATCH = 16
TOLERANCE = (1e-4, 1e-3)  # relative, of the first and of the second loss
MEMBERS, STEPS = 4, 6
LOOPS = ("small", "mlp", "conv64")


def losses(part: programs.Part, device: Any) -> list[float]:
    """Return the losses of the two first steps of one member on a device."""
    state, rows = jax.device_put((population.member(part.state, 0), part.feed.plan(0, 2)), device)
    resident = jax.device_put(part.feed.resident, device)

    @jax.jit
    def step(state: TrainState, resident: Any, row: Any):
        state, metrics = part.algorithm.step(state, part.feed.batch(resident, row))
        return state, metrics["loss"]

    seen = []
    for index in range(2):
        state, loss = step(state, resident, jax.tree.map(lambda leaf, index=index: leaf[index], rows))
        seen.append(float(loss))
    return seen


def check_model(name: str, device: Any, deadline: float) -> list[dict[str, Any]]:
    """Return a row for each stage of a model; ``failure`` says what is wrong."""
    if time.monotonic() > deadline:
        return [{"what": name, "failure": "not reached"}]
    rows = []
    cpu = jax.devices("cpu")[0]
    try:
        with jax.default_matmul_precision("highest"):
            with jax.default_device(cpu):
                stages = list(programs.parts(workloads.find(name), BATCH, "float32", 1, compute=True))
            for part in stages:
                expected, found = losses(part, cpu), losses(part, device)
                differences = [abs(a - b) / max(1.0, abs(a)) for a, b in zip(expected, found, strict=True)]
                sound = all(value <= most for value, most in zip(differences, TOLERANCE, strict=True))
                title = name if part.stage in ("model", name) else f"{name}, {part.stage}"
                row = {"what": title, "cpu": expected, "device": found, "differences": differences}
                rows.append(row | {"failure": None if sound else "losses differ"})
    except (RuntimeError, ValueError, NotImplementedError) as error:  # what a compiler or a kernel refuses
        rows.append({"what": name, "failure": f"{type(error).__name__}: {str(error).splitlines()[0]}"})
    return rows


def _through_host(leaf: jax.Array) -> jax.Array:
    """An array as a checkpoint brings it back."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jnp.asarray(np.array(jax.random.key_data(leaf)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(np.array(leaf))


def _trained(name: str, members: int, cuts: Sequence[int]) -> loop.Carry:
    """A network after ``STEPS`` steps, its carry brought to the host and back at each cut."""
    stepper, feed, hparams, example = vaex_loop.setup(workloads.find(name), BATCH, "float32")
    state = population.init(stepper, range(members), population.stack([hparams] * members), example)
    strategy = "solo" if members == 1 else "vmap"
    program, carry = loop.compile_program(stepper, feed, state, log_every=100, strategy=strategy)
    start = 0
    for stop in (*cuts, STEPS):
        carry, chunk = loop.run_chunk(program, carry, start, stop)
        if not chunk.finite.all():
            raise UserError(f"check: {name}: a loss was not finite")
        start = stop
        if stop in cuts:
            leaves, structure = jax.tree.flatten(carry)
            carry = jax.tree.unflatten(structure, [_through_host(leaf) for leaf in leaves])
    return carry


def check_loop(name: str) -> list[dict[str, Any]]:
    """Return rows of a network: resumed against never stopped, to the bit; the first member of several against alone."""
    with jax.default_matmul_precision("highest"):
        whole, cut = _trained(name, 1, ()), _trained(name, 1, (2, 5))
        together = _trained(name, MEMBERS, ())

    def arrays(carry: loop.Carry) -> list[np.ndarray]:
        return [np.asarray(leaf[0]) for leaf in jax.tree.leaves(carry.state.variables)]

    same = all(np.array_equal(a, b) for a, b in zip(arrays(whole), arrays(cut), strict=True))
    far = max(float(np.max(np.abs(a - b))) for a, b in zip(arrays(whole), arrays(together), strict=True))
    # six steps of Adam move a parameter by up to 6e-3
    return [
        {"what": f"{name}, resumed", "failure": None if same else "other bits than without a break"},
        {
            "what": f"{name}, {MEMBERS} members at once",
            "differences": [far],
            "failure": None if far < TOLERANCE[1] else "differs from training alone",
        },
    ]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table."""
    return tables.table(
        {
            "what": [row["what"] for row in rows],
            "differs from the reference by": [
                " then ".join(f"{value:.1e}" for value in row.get("differences", ())) or "-" for row in rows
            ],
            "result": [row["failure"] or "as it should be" for row in rows],
        }
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print and write; return 0 where everything that was reached is as it should be, 1 otherwise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=names, default=tuple(models.MODELS), help="default: all registered ones")
    parser.add_argument("--loops", type=names, default=LOOPS, help=f"networks (default: {','.join(LOOPS)})")
    parser.add_argument("--minutes", type=float, default=5.0, help="after which no further model begins (default: 5)")
    parser.add_argument("--out", type=pathlib.Path, help="folder for check.json and check.md")
    flags = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []

    def work() -> None:
        for name in (*flags.models, *flags.loops):
            workloads.find(name)
        device, deadline = jax.devices()[0], time.monotonic() + 60 * flags.minutes
        machine = vaex_loop.machine(None)
        say(heading(machine))
        # programs compile side by side
        with concurrent.futures.ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 1) // 2))) as pool:
            for checked in pool.map(lambda name: check_model(name, device, deadline), flags.models):
                rows.extend(checked)
                say("; ".join(f"{row['what']}: {row['failure'] or 'as it should be'}" for row in checked))
        for name in flags.loops:
            say(f"{name}: the compiled loop")
            rows.extend(check_loop(name))
        text = f"{heading(machine)}\n\n{markdown(rows)}"
        print(text)
        if flags.out:
            files.make_writable(flags.out)
            files.write_json(flags.out / "check.json", tables.without_nan({"machine": machine, "rows": rows}))
            (flags.out / "check.md").write_text(text + "\n")

    code = guarded("check", work)
    return code or int(any(row["failure"] not in (None, "not reached") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
