"""A long run that saves often: whether memory, open files, threads, files on the disk and speed stay as they are.

    python benchmarks/endurance/soak.py --minutes=30 --every=10
    python benchmarks/endurance/soak.py --minutes=5 --every=1 --model=factor_vae

The process trains as the command does, and looks at itself after every checkpoint. The table has the means of the first and of
the last third of the checkpoints, without a tenth in the beginning, and the slope of the least squares line through all of
them, for each checkpoint, with its standard error. It ends with 1 where memory, files or threads rise by more than three
standard errors and by more than is allowed (1% of the memory, one file or thread).
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import vaex
from vaex.cli.allocator import share_arenas
from vaex.core import TrainState
from vaex.runs import stage_loop

BYTES = "resident memory, KB"
FLAT = {BYTES: 0.01, "open files": 0.0, "threads": 0.0, "files of the run": 0.0}  # and the share by which each may rise
SPEED = "steps/s"


class Ended(Exception):
    """The time is over."""


class Sample(NamedTuple):
    """What a process looks like after a checkpoint."""

    seconds: float
    step: int
    memory: int
    open_files: int
    threads: int
    files: int


def sample(began: float, step: int, directory: pathlib.Path) -> Sample:
    """Look at this process and its run directory."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        time.monotonic() - began,
        step,
        pages * os.sysconf("SC_PAGE_SIZE") // 1024,
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        sum(len(files) for _, _, files in os.walk(directory)),
    )


def slope(values: np.ndarray) -> tuple[float, float]:
    """Slope of the least squares line through values [n] at 0, 1, ..., and its standard error.

    Example:
      >>> [round(float(number), 6) for number in slope(np.array([1.0, 3.0, 5.0, 7.0]))]
      [2.0, 0.0]
    """
    at = np.arange(len(values)) - (len(values) - 1) / 2
    rise = float(at @ values) / float(at @ at)
    residuals = values - values.mean() - rise * at
    return rise, math.sqrt(float(residuals @ residuals) / max(len(values) - 2, 1) / float(at @ at))


def columns(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Name -> values at each checkpoint, without a tenth in the beginning; speed is that since the checkpoint before."""
    seconds, steps = (np.array([getattr(one, name) for one in samples], float) for name in ("seconds", "step"))
    settled = max(1, len(samples) // 10)
    memory, open_files, threads, files = (
        np.array([getattr(one, name) for one in samples], float)[settled:]
        for name in ("memory", "open_files", "threads", "files")
    )
    speed = (np.diff(steps) / np.diff(seconds))[settled - 1 :]
    named = zip(FLAT, (memory, open_files, threads, files), strict=True)
    return {**dict(named), SPEED: speed}


def rises(name: str, values: np.ndarray) -> bool:
    """Return True if values that should be flat rise."""
    if name not in FLAT:
        return False
    rise, error = slope(values)
    total = rise * (len(values) - 1)
    return bool(rise > 3 * error and total > max(1.0, FLAT[name] * values[0]))


def table(samples: Sequence[Sample]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| | first third | last third | for each checkpoint | |", "|---|---|---|---|---|"]
    for name, values in columns(samples).items():
        third, (rise, error) = max(1, len(values) // 3), slope(values)
        verdict = "" if name not in FLAT else "rises" if rises(name, values) else "flat"
        means = f"{values[:third].mean():,.1f} | {values[-third:].mean():,.1f}"
        lines.append(f"| {name} | {means} | {rise:+.3f} ± {error:.3f} | {verdict} |")
    return "\n".join(lines)


def soak(model: str, minutes: float, every: float, directory: pathlib.Path) -> list[Sample]:
    """Train for so long, with checkpoints so many seconds apart."""
    stage_loop.CHECKPOINT_SECONDS = every
    samples: list[Sample] = []
    began = time.monotonic()

    def on_checkpoint(step: int, state: TrainState, stage: str) -> None:
        samples.append(sample(began, step, directory))
        if samples[-1].seconds > 60 * minutes:
            raise Ended

    x = np.random.default_rng(0).integers(0, 2, (2000, 16, 16)).astype(np.uint8)
    callbacks = [vaex.Callback(on_checkpoint=on_checkpoint)]
    try:
        vaex.train(model, x, steps=2**31 - 1, seeds=range(2), out=directory, callbacks=callbacks, progress=False)
    except Ended:
        return samples
    raise RuntimeError(f"{model}: ended by itself")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between checkpoints (default: %(default)s)")
    parser.add_argument("--model", default="vae", help="default: %(default)s")
    given = parser.parse_args(arguments)
    share_arenas()
    with tempfile.TemporaryDirectory() as folder:
        samples = soak(given.model, given.minutes, given.every, pathlib.Path(folder) / "run")
    if len(samples) < 10:
        print("too few checkpoints; give more --minutes, or a smaller --every", file=sys.stderr)
        return 1
    print(
        f"{given.model}, {len(samples)} checkpoints in {samples[-1].seconds / 60:.1f} minutes, to step {samples[-1].step:,}\n"
    )
    print(table(samples))
    return int(any(rises(name, values) for name, values in columns(samples).items()))


if __name__ == "__main__":
    sys.exit(main())
