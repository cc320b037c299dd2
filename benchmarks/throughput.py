"""Speed of a training step on this machine: vaex's compiled loop, alone and in populations, beside other frameworks.

python benchmarks/throughput.py                                   the four networks, populations of 1 and 8
python benchmarks/throughput.py --models=mlp --peers=torch,torch_compile,pythae
python benchmarks/throughput.py --models=conv64 --batch_sizes=64,128 --population=1 --peers=torch,torch_tuned,flax_loop
python benchmarks/throughput.py --device=gpu --precision=float32,bfloat16 --population=1,8,64,256 --out=results/gpu
python benchmarks/throughput.py --compare results/cpu/throughput.json results/gpu/throughput.json
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import math
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import peers
import tables
import workloads
from block import Pool, Setting, check_peers, measure
from console import counts, guarded, heading, names, say, tell, warn_of_load

from vaex import files, models
from vaex.errors import UserError

DEVICES = ("cpu", "gpu", "tpu")
PRECISIONS = ("float32", "bfloat16")
STRATEGIES = ("auto", "vmap", "members")
NOTES = """
What is measured. Each row trains one network on synthetic 0/1 images on the device (registered models: on data shaped as
their default data set), through the framework's own loop. All rows of a block are timed in turn, a repeat of about --seconds
each; repeats during which other programs used more than 12% of a core are dropped, and medians of the rest are shown, with
half the distance between their quartiles ("11 of 11" dropped: no repeat was quiet; all are shown, and they compare nothing).
Every framework has its own process, which waits while another is timed. Before anything is timed, each peer repeats
two steps from vaex's own weights, on its batch and noise, and is refused where its losses differ by more than 1e-4 (1e-3
after the update).

Populations. auto: as from vaex's command line, on a CPU with members divided over its cores. vmap: all at once on one device.
members: one after the other on one device; such repeats are longer, as vaex's own chunks are then.

Columns. model-examples/s: examples times members. per-model rate: the speed of a member of a population against that of
one model alone, which is always measured too. vaex is as fast: the rate of one vaex model over the peer's.
GFLOP a step: XLA's count for one step outside of a loop, times members; the same for peers, who train the same network. in
products: those of its matrix products and convolutions as they are defined, counted by hand; XLA's count includes the
borders that a lowering of convolutions computes in vain, and is lower where Winograd convolution needs fewer. of product
peak: the products (or XLA's count, where they are unknown) over what large matrix products of that precision reach, timed
in the same block. of bandwidth: bytes between kernels by XLA's count over what a large copy moves, timed in the same block;
small networks live in caches and exceed it.
memory: JAX: what the compiled program holds; PyTorch: peak growth of its process (torch_compile's compiler included), or
the most that it allocated on a GPU.

bfloat16: networks compute in bfloat16; parameters, losses and Adam stay float32 (PyTorch: autocast). float32 on a GPU lets
products round their inputs to TF32, in JAX and in PyTorch.
"""


def _among(known: Sequence[str]) -> Any:
    def choose(text: str) -> tuple[str, ...]:
        values = names(text)
        unknown = [value for value in values if value not in known]
        if unknown or not values:
            raise argparse.ArgumentTypeError(f"{text!r}: expected one or more of {', '.join(known)}, joined by commas")
        return values

    return choose


def _parser() -> argparse.ArgumentParser:
    networks = "\n".join(f"  {network.name:<15} {network.summary}" for network in workloads.NETWORKS.values())
    registered = "\n".join(f"  {name:<15} {entry.summary}" for name, entry in models.MODELS.items())
    others = "\n".join(f"  {name:<15} {peer.summary}" for name, peer in peers.PEERS.items())
    tuned = f"  {'NAME' + peers.TUNED:<15} any of them with glibc's allocator told to keep memory, as vaex's does: fastest on CPU"
    parser = argparse.ArgumentParser(
        prog="throughput.py",
        description=__doc__,
        epilog=f"networks:\n{networks}\n\nregistered models, with their default network and data:\n{registered}\n\n"
        f'peers, for the networks (pip install -e ".[benchmarks]"):\n{others}\n{tuned}\n{NOTES}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--models", type=names, default=tuple(workloads.NETWORKS), help="what to train (default: the networks below)")
    add("--batch_sizes", type=counts, help="of all networks (default: those of each network)")
    add("--population", type=counts, default=(1, 8), help="numbers of models trained at once (default: 1,8)")
    add("--strategies", type=_among(STRATEGIES), default=STRATEGIES, help="of populations (default: auto,vmap,members)")
    add(
        "--precision",
        type=_among(PRECISIONS),
        default=("float32",),
        help="float32, bfloat16 or both (default: float32)",
    )
    add("--device", choices=DEVICES, help="refuse to run on anything else (default: what jax finds)")
    add("--peers", type=names, default=(), help="other frameworks (default: none)")
    add("--repeats", type=int, default=11, help="of each row (default: %(default)s)")
    add("--seconds", type=float, default=0.5, help="that a repeat takes, about (default: %(default)s)")
    add("--out", type=pathlib.Path, help="folder for throughput.json, throughput.md and throughput.png")
    add("--compare", nargs="+", metavar="JSON", help="print earlier results side by side, and measure nothing")
    return parser


def _checked(flags: argparse.Namespace) -> list[workloads.Workload]:
    """Return the networks that the flags ask for.

    Raises: UserError for flags that cannot be measured.
    """
    if flags.repeats < 1 or not 0 < flags.seconds < math.inf:
        raise UserError("--repeats must be at least 1 and --seconds more than 0")
    if not flags.models:
        raise UserError(f"--models is empty; give one or more of {', '.join([*workloads.NETWORKS, *models.MODELS])}")
    loads = [workloads.find(name) for name in flags.models]
    for name in flags.peers:
        peer = peers.find(name)
        if flags.device and flags.device not in peer.platforms:
            raise UserError(f"--peers={name} does not run on a {flags.device}; leave it out")
        if name.endswith(peers.TUNED) and flags.device not in (None, "cpu"):
            raise UserError(f"--peers={name}: the allocator is the CPU's; use {name.removesuffix(peers.TUNED)}")
    without = [workload.name for workload in loads if not workload.peers]
    if flags.peers and len(without) == len(loads):
        raise UserError(
            f"--peers={','.join(flags.peers)}: no peer implements {', '.join(without)}; they know {', '.join(workloads.NETWORKS)}"
        )
    if flags.peers and without:
        say(f"no peer implements {', '.join(without)}: measured alone")
    if flags.out:
        files.make_writable(flags.out)
    return loads


def _write(folder: pathlib.Path, results: dict[str, Any]) -> None:
    files.write_json(folder / "throughput.json", tables.without_nan(results))
    with files.atomic_path(folder / "throughput.md") as temporary:
        temporary.write_text(f"{heading(results['machine'])}\n\n{tables.markdown(results['rows'])}\n")
    if importlib.util.find_spec("matplotlib") is None:
        return  # a bare accelerator needs no figure
    from vaex import plots

    plots.save(tables.figure(results["rows"]), folder / "throughput.png")


def run(flags: argparse.Namespace) -> dict[str, Any]:
    """Measure all blocks, and write the results so far after each.

    Raises: UserError with one line that names the remedy.
    """
    loads = _checked(flags)
    plan = [
        (workload, batch_size, precision)
        for workload in loads
        for batch_size in flags.batch_sizes or workload.batch_sizes
        for precision in flags.precision
    ]
    with Pool(flags.device) as pool:
        machine = pool.get("vaex").ask("call", module="vaex_loop", function="machine", device=flags.device)
        if flags.peers and any("torch" in peers.find(name).needs for name in flags.peers):
            from importlib.metadata import version

            machine["torch"] = version("torch")
        wrong = [name for name in flags.peers if machine["platform"] not in peers.find(name).platforms]
        if wrong:
            raise UserError(
                f"--peers={','.join(wrong)}: not for a {machine['platform']}, which jax uses here; leave them out"
            )
        setting = Setting(
            machine["platform"], flags.population, flags.strategies, flags.peers, flags.repeats, flags.seconds
        )
        say(heading(machine))
        check_peers(pool, loads, setting, tell)
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        settings = {"repeats": flags.repeats, "seconds": flags.seconds, "started": started}
        results: dict[str, Any] = {"benchmark": "throughput", "machine": machine, "settings": settings, "rows": []}
        for index, (workload, batch_size, precision) in enumerate(plan):
            title = f"[{index + 1}/{len(plan)}] {workload.name}, batch {batch_size}, {precision}"
            say(title)
            new = measure(
                pool, workload, batch_size, precision, setting, lambda text, title=title: tell(f"{title}: {text}")
            )
            results["rows"] += new
            warn_of_load(new)
            print(tables.markdown(new), "\n", flush=True)
            if flags.out:
                _write(flags.out, results)
    return results


def _compare(flags: argparse.Namespace) -> None:
    text = tables.compare(tables.read_results(flags.compare))
    print(text)
    if flags.out:
        files.make_writable(flags.out)
        with files.atomic_path(flags.out / "compare.md") as temporary:
            temporary.write_text(text + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure or compare, and return the exit code: 0 done, 2 refused flags or a refused peer."""
    flags = _parser().parse_args(arguments)

    def work() -> None:
        run(flags)
        if flags.out:
            say(f"written: {', '.join(str(flags.out / f'throughput.{kind}') for kind in ('json', 'md', 'png'))}")

    if flags.compare:
        return guarded("throughput", lambda: _compare(flags))
    return guarded("throughput", work, f"finished blocks are in {flags.out}" if flags.out else "")


if __name__ == "__main__":
    sys.exit(main())
