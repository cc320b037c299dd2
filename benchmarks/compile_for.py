"""Training compiled for accelerators that are not here: whether it compiles, what it holds, and what a step executes.

    python benchmarks/compile_for.py --target=tpu:v5e:2x2
    python benchmarks/compile_for.py --target=cuda:h200 --models=beta_vae,vq_vae --population=1,8 --out=compiled
    python benchmarks/compile_for.py --target=tpu:v5e:4x4 --models=hierarchical_vae --option=width=512 --fsdp
    python benchmarks/compile_for.py --target=tpu:v5e:8x8 --models=conv64 --batch_sizes=512 --precision=float32,bfloat16

Nothing runs: XLA compiles the chunk of steps that training runs, donated and divided over the devices of the target as training
divides it, for each stage of a model on data shaped as its default data set. In environments of their own:
pip install "vaex-jax[train,tpu]" for a TPU, "vaex-jax[train,gpu]" for a GPU; all that runs here uses the CPU.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import tables
import workloads
from accelerators import report, targets
from console import counts, guarded, names, say, tell
from workers import Worker

from vaex import files, models
from vaex.errors import UserError

PRECISIONS = ("float32", "bfloat16")
NOTES = """
Numbers are those of one device. arguments + temporaries: what the compiled program holds; of memory: with its results, donated
arrays once, against the device's. GFLOP a step: products and convolutions as they are defined. MB a step: what kernels read and
write, of slices the part that is taken. roofline: the longer of both against the vendor's peaks, a bound from below that knows no
launches. compiler: XLA's own estimate of the program, where it makes one. kernels: instructions that execute in a step, loops of
known length unrolled. library: calls of cuDNN, cuBLAS and Triton. grouped: convolutions in groups, such as those of members at
once. copies: copies and transposes that are kernels of their own. padding: results as stored, in whole tiles, over their bytes.
collectives: calls of a step, and bytes: what all-gathers and all-reduces return, what reduce-scatters and the others are given.
donated: arrays of the carry that are updated in place. host: transfers to and from the host, and callbacks. A GPU's kernels are
chosen without timings, which need a card.
"""


def _choices(text: str) -> tuple[str, ...]:
    values = names(text)
    if not values or set(values) - set(PRECISIONS):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {' or '.join(PRECISIONS)}, or both joined by a comma")
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compile_for.py",
        description=__doc__,
        epilog=f"targets: {', '.join(targets.CHIPS)}; of a TPU with the shape of a slice, such as tpu:v5e:2x2; of a GPU with the "
        f"number of cards, 1 by default, such as cuda:h200:8\n{NOTES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--target", type=names, required=True, help="one or more devices, joined by commas")
    add("--models", type=names, default=tuple(models.MODELS), help="as in throughput.py (default: all registered ones)")
    add("--population", type=counts, default=(1,), help="numbers of models trained at once (default: 1)")
    add("--batch_sizes", type=counts, help="of all models (default: that of each model)")
    add("--precision", type=_choices, default=("float32",), help="float32, bfloat16 or both (default: float32)")
    add("--strategy", choices=("auto", "vmap", "members"), default="auto", help="of populations (default: %(default)s)")
    add("--option", action="append", default=[], help="of all models, such as width=512; may be given repeatedly")
    add("--fsdp", action="store_true", help="divide parameters and optimizer state over devices that share a batch")
    add("--hlo", action="store_true", help="keep the optimised HLO of each program in the folder hlo of --out")
    add("--out", type=pathlib.Path, help="folder for compile_for.json and compile_for.md")
    return parser


def run(flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Compile everything that the flags ask for, and write the rows so far after each model.

    Raises: UserError with one line that names the remedy.
    """
    for name in flags.target:
        targets.require(targets.parse(name))
    for name in flags.models:
        workloads.find(name)
    folder = str(flags.out / "hlo") if flags.out and flags.hlo else None
    if flags.out:
        files.make_writable(flags.out)
    if folder:
        files.make_writable(pathlib.Path(folder))
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    results: dict[str, Any] = {"benchmark": "compile_for", "started": started, "rows": []}
    plan = [
        {"target_name": target, "model": model, "members": members, "batch_size": batch, "precision": precision}
        for target in flags.target
        for precision in flags.precision
        for model in flags.models
        for members in flags.population
        for batch in flags.batch_sizes or (None,)
    ]
    worker = None
    try:
        for index, what in enumerate(plan):
            title = f"[{index + 1}/{len(plan)}] {what['target_name']}, {what['model']} x {what['members']}"
            tell(title)
            worker = worker or Worker(extra=targets.environment())
            try:
                new = worker.ask(
                    "call",
                    module="accelerators.programs",
                    function="rows",
                    strategy=flags.strategy,
                    folder=folder,
                    fsdp=flags.fsdp,
                    options=flags.option,
                    **what,
                )
            except RuntimeError as error:  # a compiler that aborts ends its process
                new, worker = [_lost(what, error)], worker.close()
            except UserError as error:
                new = [_lost(what, error)]
            results["rows"] += new
            say(f"{title}: {'; '.join(_summary(row) for row in new)}")
            if flags.out:
                files.write_json(flags.out / "compile_for.json", tables.without_nan(results))
                (flags.out / "compile_for.md").write_text(report.markdown(results["rows"]) + "\n")
    finally:
        if worker is not None:
            worker.close()
    return results["rows"]


def _lost(what: dict[str, Any], error: Exception) -> dict[str, Any]:
    reason = str(error).strip().splitlines()[-1]
    batch = what["batch_size"] or workloads.find(what["model"]).batch_sizes[0]
    return {
        "target": what["target_name"],
        "model": what["model"],
        "stage": what["model"],
        "population": what["members"],
        "batch_size": batch,
        "precision": what["precision"],
        "failure": reason,
    }


def _summary(row: dict[str, Any]) -> str:
    if row["failure"]:
        return f"{row['stage']} fails: {row['failure']}"
    return f"{row['stage']} compiles in {row['compile_seconds']:.1f} s, {row['kernels']} kernels a step"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print the tables, and return the exit code: 0 everything compiled, 1 something did not, 2 refused flags."""
    flags = _parser().parse_args(arguments)
    rows: list[dict[str, Any]] = []

    def work() -> None:
        rows.extend(run(flags))
        print(report.markdown(rows))

    os.environ |= targets.environment()  # of this process too, should anything import jax
    code = guarded("compile_for", work, f"finished rows are in {flags.out}" if flags.out else "")
    return code or int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
