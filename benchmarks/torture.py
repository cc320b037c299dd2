"""Runs that are killed at random moments and started again, compared with runs that were never stopped.

    python benchmarks/torture.py --kills=100
    python benchmarks/torture.py --kills=20 --runs=population,hierarchical --signals=KILL
    python benchmarks/torture.py --kills=100 --minutes=60

Each run is trained through the command, evaluated and drawn. Once it ends undisturbed; then it is started in another directory,
and a signal ends the process: half of the times at a moment drawn evenly from its whole length, while it imports, compiles,
evaluates or draws, and half of the times soon after a drawn step of training, while it trains or saves. The same command goes on
until a process ends by itself. Then every array of the newest checkpoints must have the bits of the undisturbed run,
metrics.jsonl its bytes, summary.json its results, and no file may be left over. Until the kills are used up, another directory
begins. The table says how many processes each signal ended in each phase. It ends with 1 where a directory differs.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from console import names, say, tell

ROOT = pathlib.Path(__file__).resolve().parents[1]
COMMON = ("--log_every=7", "--eval_samples=2", "--eval_images=10")
CODES = ("--channels=2", "--blocks=0", "--codes=4", "--code_dim=2")
RUNS = {  # flags by name: members in turn, two stages, two parameter groups, several levels of latents
    "population": ("--model=beta_vae", "--beta=1,4", "--seeds=0:2", "--population_strategy=members", "--average_decay=0.99",
                   "--steps=600", "--checkpoint_every=50", "--hidden=8", "--latent_dim=2"),
    "two_stages": ("--model=vq_vae", *CODES, "--prior_width=4", "--prior_layers=1", "--prior_heads=2", "--batch_size=16",
                   "--steps=200", "--prior_steps=200", "--checkpoint_every=25"),
    "two_groups": ("--model=factor_vae", "--hidden=8", "--latent_dim=2", "--steps=400", "--checkpoint_every=40"),
    "hierarchical": ("--model=ladder_vae", "--steps=200", "--checkpoint_every=20", "--batch_size=16"),
}  # fmt: skip
PHASES = ("start", "compile", "train", "evaluate")
NUMBERED = re.compile(r"\d+")
PATIENCE = 900.0  # seconds for one process


def start(flags: Sequence[str], directory: pathlib.Path, programs: pathlib.Path) -> subprocess.Popen[str]:
    """Start a run as its user does; processes share what XLA compiles, so that starting again is quick."""
    cache = {"JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return subprocess.Popen(
        [sys.executable, "experiments/run.py", *flags, *COMMON, f"--out={directory}"],
        cwd=ROOT,
        env=os.environ | cache | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def phase(directory: pathlib.Path, last_stage_done: pathlib.Path) -> str:
    """Return how far a run has come, by what its directory holds."""
    if last_stage_done.exists():
        return "evaluate"
    if (directory / "timings.jsonl").exists():
        return "train"
    return "compile" if (directory / "config.json").exists() else "start"


def reported(directory: pathlib.Path) -> int:
    """Return how many steps of all stages a run has reported, -1 before it is known as a run."""
    total = 0 if (directory / "config.json").exists() else -1
    for place in places(directory):
        try:
            lines = (place / "timings.jsonl").read_text().splitlines()
            total += max((json.loads(line)["step"] for line in lines), default=0)
        except (OSError, ValueError):  # not there yet, or a line half written
            continue
    return total


def places(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the folders of a run's stages."""
    yield directory
    yield from sorted(path for path in (directory / "stages").glob("*") if path.is_dir())


def newest(place: pathlib.Path) -> int:
    """Return the step of a stage's newest checkpoint, -1 where there is none."""
    return max((int(path.name) for path in (place / "checkpoints").glob("*") if path.name.isdigit()), default=-1)


def arrays(place: pathlib.Path) -> dict[str, np.ndarray]:
    """Return the arrays of a stage's newest checkpoint by their names."""
    import jax

    from vaex.training.checkpoint import Checkpoints
    from vaex.training.parts import names as array_names

    checkpoints = Checkpoints(place / "checkpoints")
    tree = checkpoints.read()
    checkpoints.close()

    def plain(leaf: jax.Array) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return {name: plain(leaf) for name, leaf in array_names(tree).items()}


def files(directory: pathlib.Path) -> set[str]:
    """Return the files of a run by their paths; those of checkpoints by the stage alone, since which steps stay may differ."""
    entries = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    return {entry for entry in entries if not any(NUMBERED.fullmatch(part) for part in pathlib.Path(entry).parts)}


def differences(whole: pathlib.Path, killed: pathlib.Path) -> list[str]:
    """Return in what a run that was killed differs from one that never stopped; [] where they are equal."""
    found = [f"{name} is left over" for name in sorted(files(killed) - files(whole))]
    found += [f"{name} is missing" for name in sorted(files(whole) - files(killed))]
    for place in places(whole):
        other = killed / place.relative_to(whole)
        where = place.relative_to(whole)
        if newest(place) != newest(other):
            found.append(f"{where}: step {newest(other)}, expected {newest(place)}")
            continue
        expected, given = arrays(place), arrays(other)
        if expected.keys() != given.keys():
            found.append(f"{where}: the checkpoint holds other arrays")
        different = [name for name in expected if name in given and _differ(expected[name], given[name])]
        found += [f"{where}: {name} has other bits" for name in different[:3]]
        if (place / "metrics.jsonl").read_bytes() != (other / "metrics.jsonl").read_bytes():
            found.append(f"{where}: metrics.jsonl differs")
    summaries = [json.loads((run / "summary.json").read_text()) for run in (whole, killed)]
    found += [
        f"summary.json: {name} differs" for name in ("members", "results") if summaries[0][name] != summaries[1][name]
    ]
    return found


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype != other.dtype or one.shape != other.shape or one.tobytes() != other.tobytes()


class Torture:
    """One kind of run: its undisturbed directory, and the directories that were killed.

    Args:
      name: of ``RUNS``.
      folder: where everything is written.
      signals: what ends a process, drawn evenly.
      draw: of moments and signals.
    """

    def __init__(self, name: str, folder: pathlib.Path, signals: Sequence[signal.Signals], draw: random.Random) -> None:
        self.name, self.folder, self._signals, self._draw = name, folder, signals, draw
        self.ended: collections.Counter[tuple[str, str]] = collections.Counter()
        self.compared, self.problems = 0, []
        self._whole, self._programs = folder / "whole", folder / "programs"
        self._finish(self._whole)
        again = time.monotonic()
        self._steps = reported(self._whole)
        self._finish(folder / "measured")  # with the programs of the first
        self.seconds = time.monotonic() - again
        self.problems += differences(self._whole, folder / "measured")

    def _finish(self, directory: pathlib.Path) -> None:
        process = start(RUNS[self.name], directory, self._programs)
        _, errors = process.communicate(timeout=PATIENCE)
        if process.returncode != 0:
            raise RuntimeError(f"{self.name}: ended with {process.returncode}: {errors.strip()[-500:]}")

    def kill(self, number: int, until: float = math.inf) -> None:
        """End so many processes by signals, in as many directories as that takes, and compare each directory.

        Args:
          number: of processes.
          until: the moment of ``time.monotonic`` from which on nothing more is killed.
        """
        index = 0
        while self.ended.total() < number and time.monotonic() < until:
            index += 1
            directory = self.folder / f"killed_{index}"
            while self.ended.total() < number and time.monotonic() < until and self._disturbed(directory):
                tell(f"{self.name}: {self.ended.total()} of {number} kills")
            self._finish(directory)
            self.compared += 1
            self.problems += [f"directory {index}: {text}" for text in differences(self._whole, directory)]

    def _disturbed(self, directory: pathlib.Path) -> bool:
        """Start the run and end it at a random moment; return False where it ended by itself before."""
        process = start(RUNS[self.name], directory, self._programs)
        try:
            if self._draw.random() < 0.5:
                self._wait_for_step(process, directory, self._draw.randint(0, self._steps))
                wait = 0.1 * self._draw.random() ** 2  # up to the length of a save
            else:
                wait = self._draw.uniform(0.3, self.seconds)
            _, errors = process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            chosen = self._draw.choice(self._signals)
            *_, last = places(self._whole)
            done = directory / last.relative_to(self._whole) / "checkpoints" / str(newest(last))
            self.ended[chosen.name, phase(directory, done)] += 1
            process.send_signal(chosen)
            _, errors = process.communicate(timeout=PATIENCE)
            if "Traceback" in errors and chosen != signal.SIGINT:
                self.problems.append(f"{chosen.name}: {errors.strip().splitlines()[-1]}")
            return True
        if process.returncode != 0:
            self.problems.append(f"ended with {process.returncode}: {errors.strip()[-300:]}")
        return False

    def _wait_for_step(self, process: subprocess.Popen[str], directory: pathlib.Path, step: int) -> None:
        began = time.monotonic()
        while reported(directory) < step and process.poll() is None and time.monotonic() - began < PATIENCE:
            time.sleep(0.002)


def table(tortures: Sequence[Torture]) -> str:
    """Return the results as a Markdown table."""
    heading = "| run | seconds | kills | " + " | ".join(PHASES) + " | by signal | directories | differences |"
    lines = [heading, "|---" * (len(PHASES) + 6) + "|"]
    for torture in tortures:
        phases, signals = collections.Counter[str](), collections.Counter[str]()
        for (chosen, reached), number in torture.ended.items():
            phases[reached] += number
            signals[chosen] += number
        by_signal = ", ".join(f"{name.removeprefix('SIG')} {number}" for name, number in sorted(signals.items()))
        columns = [
            torture.name,
            f"{torture.seconds:.1f}",
            str(torture.ended.total()),
            *(str(phases[p]) for p in PHASES),
        ]
        lines.append("| " + " | ".join([*columns, by_signal, str(torture.compared), str(len(torture.problems))]) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Torture the runs that are asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills of each run (default: %(default)s)")
    parser.add_argument("--runs", type=names, default=tuple(RUNS), help=f"of {', '.join(RUNS)} (default: all)")
    parser.add_argument("--signals", type=names, default=("KILL", "TERM", "INT"), help="default: KILL,TERM,INT")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="for all runs; then no more kills (default: no end)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.runs if name not in RUNS]:
        parser.error(f"--runs: {unknown[0]!r} is none of {', '.join(RUNS)}")
    signals = [signal.Signals[f"SIG{name.removeprefix('SIG')}"] for name in given.signals]
    tortures, began = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for index, name in enumerate(given.runs):
            until = time.monotonic() + (began + 60.0 * given.minutes - time.monotonic()) / (len(given.runs) - index)
            torture = Torture(name, pathlib.Path(folder) / name, signals, random.Random(f"{given.seed} {name}"))
            torture.kill(given.kills, until)
            tortures.append(torture)
            say(f"{name}: {torture.ended.total()} kills, {len(torture.problems)} differences")
    print(table(tortures))
    problems = [f"{torture.name}: {problem}" for torture in tortures for problem in torture.problems]
    print("\n".join(problems) or "All directories equal the runs that were never stopped.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
