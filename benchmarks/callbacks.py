"""Cost of callbacks and loggers, of an MLP's training: ``python benchmarks/callbacks.py``.

One run of ``vaex.train`` in which the callback and the loggers take the rows of every other block of chunks, and nobody those of
the blocks between: one compiled program, both in turn, so that neither compilation nor drift of the machine is compared. Prints the
time of a step in both kinds of block, medians over blocks. --log_to=tensorboard,wandb chooses loggers (wandb offline).
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import vaex
from vaex.training import loggers
from vaex.training.callbacks import Callback, Row

SETTINGS: dict[str, Any] = {"hidden": (512,), "latent_dim": 16, "batch_size": 100, "binarize": "dynamic"}


class AlternatingBlocks:
    """Callback that passes rows on in every other block of ``length`` calls, and times the blocks.

    Attributes:
      seconds: whether rows were passed on -> seconds a step of each block; the first block, which warms up, is left out.
    """

    def __init__(self, callbacks: Sequence[Callback], length: int) -> None:
        self._callbacks, self._length = callbacks, length
        self._calls, self._began, self._step = 0, 0.0, 0
        self.seconds: dict[bool, list[float]] = {False: [], True: []}

    def on_rows(self, rows: Sequence[Row], stage: str) -> None:
        """Pass rows on or not; where a block ends, record its time, that of its callbacks included."""
        block, position = divmod(self._calls, self._length)
        passes = block % 2 == 1
        self._calls += 1
        for callback in self._callbacks if passes else ():
            callback.on_rows(rows, stage)
        if position == self._length - 1:
            now, step = time.perf_counter(), int(rows[-1]["step"])
            if block:
                self.seconds[passes].append((now - self._began) / (step - self._step))
            self._began, self._step = now, step


def measure(flags: argparse.Namespace, folder: pathlib.Path) -> dict[str, float | int]:
    """Train, and return medians over blocks."""
    seen: list[float] = []
    own = Callback(on_rows=lambda rows, stage: seen.extend(float(row["elbo"][0]) for row in rows))
    chosen = {
        "tensorboard": lambda: loggers.tensorboard(folder),
        "wandb": lambda: loggers.wandb(mode="offline", dir=str(folder), project="vaex"),
    }
    callbacks = [own, *(chosen[name]() for name in flags.log_to.split(",") if name)]
    blocks = AlternatingBlocks(callbacks, flags.block)
    x = np.random.default_rng(0).integers(0, 256, (5000, 28, 28), np.uint8)
    alternating = Callback(on_rows=blocks.on_rows)
    run = vaex.train(
        "vae", x, steps=flags.steps, log_every=flags.log_every, callbacks=[alternating], progress=False, **SETTINGS
    )
    for callback in callbacks:
        callback.on_end(run)
    if not blocks.seconds[True]:
        raise SystemExit(f"callbacks: no two blocks of {flags.block} chunks in {flags.steps} steps; give more --steps")
    without, with_them = (statistics.median(blocks.seconds[passes]) for passes in (False, True))
    return {
        "step_without_microseconds": 1e6 * without,
        "step_with_microseconds": 1e6 * with_them,
        "overhead": with_them / without - 1,
        "blocks": len(blocks.seconds[True]),
        "rows": len(seen),
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60_000, help="of training (default: %(default)s)")
    parser.add_argument("--log_every", type=int, default=100, help="steps a row (default: %(default)s)")
    parser.add_argument("--block", type=int, default=4, help="chunks, of about half a second (default: %(default)s)")
    parser.add_argument("--log_to", default="tensorboard", help="beside a function of Python (default: %(default)s)")
    flags = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(flags, pathlib.Path(folder)), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
