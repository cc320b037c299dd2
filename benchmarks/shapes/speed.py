"""Speed of vaex beside PyTorch for work that throughput.py does not measure: codebooks, many samples, priors of codes.

python benchmarks/shapes/speed.py --only=vq_vae,iwae --out=results/shapes
python benchmarks/shapes/speed.py --peers=                                  vaex alone
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import peers
import tables
from block import Contestant, Pool, build_peaks, timed
from console import counts, guarded, heading, names, say, tell, warn_of_load
from tables import Row
from workers import OutOfMemory

import shapes
from shapes import Shape
from vaex import files
from vaex.errors import UserError

PEERS = ("torch", "torch_tuned", "torch_compile", "torch_compile_tuned", "vector_quantize_pytorch", "pythae")
NOTES = """
A peer that does not implement a shape is left out there; NAME_tuned is a peer with glibc's allocator told to keep memory, as vaex's
command tells it. Before anything is timed, each peer repeats vaex's numbers from vaex's weights, batch and noise: the losses of two
training steps, the bounds of a few images, or codes drawn with the same noise. Frameworks have processes of their own and are
timed in turn; repeats during which other programs used more than 12% of a core are dropped, and medians of the rest are shown.

of product peak: operations over what large matrix products reach, timed in the same block; of training, XLA's count of vaex's
step, of bounds and sampling the decoder's or transformer's products. of bandwidth: bytes between the kernels of vaex's step over
what a large copy moves.
"""


def _parser() -> argparse.ArgumentParser:
    known = "\n".join(f"  {name:<10} {shape.workload.summary}" for name, shape in shapes.SHAPES.items())
    others = {name: peer for shape in shapes.SHAPES.values() for name, peer in shape.peers.items()}
    listed = "\n".join(f"  {name:<24} {others[name].summary}" for name in shapes.names())
    parser = argparse.ArgumentParser(
        prog="speed.py",
        description=__doc__,
        epilog=f'shapes:\n{known}\n\npeers (pip install -e ".[benchmarks]"):\n{listed}\n{NOTES}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=names, default=tuple(shapes.SHAPES), help="shapes to measure (default: all)")
    add("--peers", type=names, default=PEERS, help=f"other frameworks (default: {','.join(PEERS)})")
    add("--batch_sizes", type=counts, help="of all shapes (default: those of each)")
    add("--repeats", type=int, default=11, help="of each row (default: %(default)s)")
    add("--seconds", type=float, default=1.0, help="that a repeat takes, about (default: %(default)s)")
    add("--device", choices=("cpu", "gpu"), default="cpu", help="where all of it runs (default: cpu)")
    add("--out", type=pathlib.Path, help="folder for shapes.json and shapes.md")
    return parser


def _checked(flags: argparse.Namespace) -> list[Shape]:
    """Return the shapes that the flags ask for.

    Raises: UserError for flags that cannot be measured.
    """
    if flags.repeats < 1 or not 0 < flags.seconds < float("inf"):
        raise UserError("--repeats must be at least 1 and --seconds more than 0")
    if not flags.only:
        raise UserError(f"--only is empty; give one or more of {', '.join(shapes.SHAPES)}")
    chosen = [shapes.shape(name) for name in flags.only]
    for name in flags.peers:
        shapes.check_peer(name)
        if name.endswith(peers.TUNED) and flags.device != "cpu":
            raise UserError(f"--peers={name}: the allocator is the CPU's; use {name.removesuffix(peers.TUNED)}")
    if flags.out:
        files.make_writable(flags.out)
    return chosen


def _build_peers(pool: Pool, shape: Shape, batch_size: int, flags: argparse.Namespace):
    """Return the peers that implement a shape, and rows of those that ran out of memory."""
    built, failed = [], []
    for name in flags.peers:
        peer = shape.peers.get(name.removesuffix(peers.TUNED))
        if peer is None:
            continue
        options = peers.as_options(shape.workload, batch_size, "float32", flags.device)
        worker = pool.get(name)
        try:
            properties = worker.ask("build", name=name, module=peer.module, maker=peer.maker, **options)
            built.append(Contestant(name, worker, properties, framework=name))
        except OutOfMemory:
            failed.append({"framework": name, "strategy": "", "population": 1, "failure": "out of memory"})
    return built, failed


def check(pool: Pool, shape: Shape, flags: argparse.Namespace) -> None:
    """Check that the peers of a shape repeat vaex's numbers.

    Raises: UserError for one that does not.
    """
    if not any(name.removesuffix(peers.TUNED) in shape.peers for name in flags.peers):
        return
    parity = pool.get("vaex").ask("call", **shape.reference())
    for entry in _build_peers(pool, shape, 8, flags)[0]:
        tell(f"{shape.name}: checking {entry.name}")
        numbers = entry.worker.ask("check", name=entry.name, parity=parity)
        peers.check_losses(
            f"{entry.name} on {shape.name}", parity["losses"], numbers, when=shape.moments, tolerances=shape.tolerance
        )
    pool.drop()


def measure(
    pool: Pool, shape: Shape, batch_size: int, flags: argparse.Namespace, report: Callable[[str], None] = tell
) -> list[Row]:
    """Build and time one shape, and return its rows."""
    ours = pool.get("vaex")
    built = [Contestant("vaex", ours, ours.ask("build", name="vaex", **shape.ours(batch_size)), "vaex")]
    others, failed = _build_peers(pool, shape, batch_size, flags)
    block = {"model": shape.name, "batch_size": batch_size, "precision": "float32", "repeats": flags.repeats}
    built += [*others, *build_peaks(pool, "float32", None)]
    rows = timed(pool, block, None, built, failed, flags.seconds, report)
    for row in rows:
        row["unit"] = shape.unit
        rate = row.get("examples_per_second")
        row["units_per_second"] = rate and rate * shape.per_example
    return rows


def markdown(rows: Sequence[Row]) -> str:
    """Return a table for each shape and batch size, and the summary."""
    parts = [summary(rows)]
    for (model, batch_size, _), block in tables.blocks(rows).items():
        peaks = f"products {tables.number(block[0]['product_peak'] / 1e9)} GFLOP/s"
        peaks += f", copies {tables.number(block[0]['copy_peak'] / 1e9)} GB/s"
        columns = {
            "what": [row["framework"] for row in block],
            "a second": [row.get("failure") or tables.number(row["steps_per_second"]) for row in block],
            "spread": [tables.spread(row.get("spread")) for row in block],
            f"{block[0]['unit']}/s": [tables.number(row.get("units_per_second")) for row in block],
            "vaex is as fast": [tables.number(row.get("vaex_ratio"), "x") for row in block],
            "compile, s": [tables.number(row.get("compile_seconds")) for row in block],
            "of product peak": [tables.percent(row.get("product_fraction")) for row in block],
            "of bandwidth": [tables.percent(row.get("bandwidth_fraction")) for row in block],
            "repeats dropped": [f"{row.get('dropped', '-')} of {row['repeats']}" for row in block],
        }
        parts.append(f"{model}, batch {batch_size}. Measured beside it: {peaks}.\n\n{tables.table(columns)}")
    return "\n\n".join(parts)


def summary(rows: Sequence[Row]) -> str:
    """Return a table of vaex beside the fastest peer of each shape.

    Example:
      >>> rows = [{"model": "iwae", "batch_size": 20, "precision": "float32", "framework": "vaex", "steps_per_second": 9.0}]
      >>> rows += [{**rows[0], "framework": "torch", "steps_per_second": 6.0, "vaex_ratio": 1.5}]
      >>> print(summary(rows))
      | shape | batch | vaex, a second | fastest peer | its, a second | vaex is as fast |
      |---|---|---|---|---|---|
      | iwae | 20 | 9.00 | torch | 6.00 | 1.50x |
    """
    cells: list[list[str]] = []
    for (model, batch_size, _), block in tables.blocks(rows).items():
        ours = next((row for row in block if row["framework"] == "vaex" and not row.get("failure")), None)
        others = [row for row in block if row["framework"] != "vaex" and not row.get("failure")]
        best = max(others, key=lambda row: row["steps_per_second"], default=None)
        cells.append([model, str(batch_size), tables.number(ours["steps_per_second"] if ours else None)])
        cells[-1] += [best["framework"], tables.number(best["steps_per_second"])] if best else ["-", "-"]
        cells[-1].append(tables.number(best.get("vaex_ratio") if best else None, "x"))
    heads = ("shape", "batch", "vaex, a second", "fastest peer", "its, a second", "vaex is as fast")
    return tables.table(dict(zip(heads, map(list, zip(*cells, strict=True)), strict=True)))


def run(flags: argparse.Namespace) -> dict[str, Any]:
    """Check and measure all shapes, and write the results so far after each.

    Raises: UserError with one line that names the remedy.
    """
    chosen = _checked(flags)
    with Pool(flags.device) as pool:
        machine = pool.get("vaex").ask("call", module="vaex_loop", function="machine", device=flags.device)
        if flags.peers and importlib.util.find_spec("torch"):
            from importlib.metadata import version

            machine["torch"] = version("torch")
        say(heading(machine))
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        settings = {"repeats": flags.repeats, "seconds": flags.seconds, "started": started}
        results: dict[str, Any] = {"benchmark": "shapes", "machine": machine, "settings": settings, "rows": []}
        for shape in chosen:
            check(pool, shape, flags)
            for batch_size in flags.batch_sizes or shape.workload.batch_sizes:
                say(f"{shape.name}, batch {batch_size}")
                new = measure(pool, shape, batch_size, flags)
                results["rows"] += new
                warn_of_load(new)
                print(markdown(new), "\n", flush=True)
                if flags.out:
                    _write(flags.out, results)
    return results


def _write(folder: pathlib.Path, results: dict[str, Any]) -> None:
    files.write_json(folder / "shapes.json", tables.without_nan(results))
    with files.atomic_path(folder / "shapes.md") as temporary:
        temporary.write_text(f"{heading(results['machine'])}\n\n{markdown(results['rows'])}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit code: 0 done, 2 refused flags or a refused peer."""
    flags = _parser().parse_args(arguments)

    def work() -> None:
        run(flags)

    return guarded("speed", work, f"finished shapes are in {flags.out}" if flags.out else "")


if __name__ == "__main__":
    sys.exit(main())
