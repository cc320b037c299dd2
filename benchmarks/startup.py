"""Seconds of starting: importing vaex, ``--help``, and the first training step of the default run.

The first step is measured cold (its programs are compiled) and cached (they come from the compilation cache). Processes are
fresh and interleaved; medians are printed: ``python benchmarks/startup.py``. Bytecode is kept in a temporary folder, as a user's
Python keeps it beside the sources.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from measure import interleave

ROOT = pathlib.Path(__file__).resolve().parents[1]
SHORT = 8  # short processes per repeat, since the machine counts its work in hundredths of a second
IMPORTS = """
from vaex.cli import main as cli
from vaex.models.registry import module
from vaex.runs import setup
module("beta_vae")
"""
# experiments/run.py, ended after the first step; prints the seconds since the imports
FIRST_STEP = f"""
import os, sys, time
from vaex.training import loop
{IMPORTS}
imported, run_chunk = time.perf_counter(), loop.run_chunk
def first(*arguments):
    run_chunk(*arguments)
    print(time.perf_counter() - imported, flush=True)
    os._exit(0)
loop.run_chunk = first
sys.exit(cli.main(["--model=beta_vae", "--overwrite", *sys.argv[1:]]))
"""
GOALS = {"`import vaex` adds": 0.05, "`--help`": 0.7, "first step after the imports, cached": 2.0}


class Processes:
    """Fresh Python processes with caches and run directories in a folder of their own."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        added = {
            "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "VAEX_CACHE": str(folder / "cache"),
        }
        removed = ("PYTHONDONTWRITEBYTECODE", "JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
        self.environment = {name: text for name, text in (os.environ | added).items() if name not in removed}

    def run(self, *arguments: str) -> str:
        """Return what ``python *arguments`` prints.

        Raises: RuntimeError with its standard error where it fails.
        """
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, cwd=self.folder, env=self.environment
        )
        if done.returncode:
            raise RuntimeError(f"python {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def launches(self, count: int, *arguments: str) -> Callable[[], float]:
        """Return a function that runs ``python *arguments`` ``count`` times and returns the mean seconds."""

        def function() -> float:
            began = time.perf_counter()
            for _ in range(count):
                self.run(*arguments)
            return (time.perf_counter() - began) / count

        return function

    def first_step(self, *, cached: bool) -> float:
        """Return the seconds from the imports to the end of the first step."""
        if not cached:
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return float(self.run("-c", FIRST_STEP, f"--out={self.folder / 'run'}").splitlines()[-1])

    def to_first_step(self) -> None:
        """Run a process to the end of its first step, with cached programs."""
        self.first_step(cached=True)


def measure(processes: Processes, repeats: int) -> list[dict[str, Any]]:
    """Return one row per measurement; the cold start comes first and leaves its programs to the others."""
    script = str(ROOT / "experiments" / "run.py")
    timings = interleave(
        {
            "first step after the imports, cold": lambda: processes.first_step(cached=False),
            "first step after the imports, cached": lambda: processes.first_step(cached=True),
            "process to its first step, cached": processes.to_first_step,
            "imports of a run": processes.launches(1, "-c", IMPORTS),
            "`--help`": processes.launches(SHORT, script, "--help"),
            "`--model=beta_vae --help`": processes.launches(1, script, "--model=beta_vae", "--help"),
            "`import vaex`": processes.launches(SHORT, "-c", "import vaex"),
            "python": processes.launches(SHORT, "-c", "pass"),
        },
        repeats=repeats,
    )
    rows = [
        {"what": what, "seconds": timing.median, "spread": timing.spread, "dropped": timing.dropped}
        for what, timing in timings.items()
    ]
    added = timings["`import vaex`"].median - timings["python"].median
    rows.append({"what": "`import vaex` adds", "seconds": added, "spread": None, "dropped": None})
    return [row | {"goal": GOALS.get(row["what"])} for row in rows]


def main() -> None:
    """Print a Markdown table; with --out write JSON as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--out", type=pathlib.Path, help="write the numbers as JSON")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vaex-startup-") as folder:
        rows = measure(Processes(pathlib.Path(folder)), flags.repeats)
    print("| what | median, s | goal | spread | repeats dropped |")
    print("|---|---|---|---|---|")
    for row in rows:
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        spread = "" if row["spread"] is None else f"±{row['spread']:.1%}"
        dropped = "" if row["dropped"] is None else f"{row['dropped']} of {flags.repeats}"
        print(f"| {row['what']} | {row['seconds']:.3f} | {goal} | {spread} | {dropped} |")
    if flags.out:
        flags.out.write_text(json.dumps({"python": sys.version, "repeats": flags.repeats, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
