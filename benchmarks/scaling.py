"""Cost of a training step as one quantity grows: batch, latents, width, population, image or devices.

python benchmarks/scaling.py                                              all of them, around the MLP 784-512-16
python benchmarks/scaling.py --model=conv64 --axes=batch,image --image=16,32,64
python benchmarks/scaling.py --axes=batch,population --batch=128,512,2048,8192 --population=1,8,64,256 --device=gpu
"""

from __future__ import annotations

import argparse
import math
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import exponents
import numpy as np
import tables
import workloads
from block import calibrate, spread_over
from console import counts, guarded, heading, names, say, tell, warn_of_load
from measure import Worked, interleave
from tables import Row, number, spread
from workers import OutOfMemory, Worker
from workloads import Workload

from vaex import files
from vaex.errors import UserError, nearest

if TYPE_CHECKING:
    from vaex.plots.records import Curves

AXES: dict[str, tuple[tuple[int, ...], str]] = {
    "batch": ((16, 32, 64, 128, 256, 512), "examples a step"),
    "latent": ((4, 16, 64, 256), "latent variables (per pixel for residual)"),
    "width": ((64, 128, 256, 512, 1024, 2048), "of the hidden layers; channels of the first convolution"),
    "population": ((1, 2, 4, 8, 16), "models trained at once, as vaex does it: on a CPU divided over its cores"),
    "image": ((8, 16, 32, 64), "pixels a side; exponents are those of the number of pixels"),
    "devices": ((1, 2, 4), "that divide the batch; on a CPU virtual ones, which share its cores"),
}
NOTES = """
Each value of an axis is compiled, and all are timed in turn through vaex's own loop, a repeat of about --seconds each; repeats
during which other programs used more than 12% of a core are dropped. An exponent of 1 is linear: the cost doubles with the
value. Between neighbours, 0.85 to 1.15 is called linear. The exponent of FLOPs (XLA's count) says how the work itself grows;
where the cost's is smaller, larger steps use the machine better.
"""


def vary(workload: Workload, axis: str, value: int, platform: str = "") -> tuple[Workload, dict[str, int]]:
    """Return the network with one quantity changed, and the options of ``vaex_loop.Loop``; on a CPU members divide its cores.

    Example:
      >>> vary(workloads.find("mlp"), "width", 64)[0].config["hidden"]
      (64,)
      >>> vary(workloads.find("mlp"), "population", 4)[1]
      {'batch_size': 100, 'members': 4, 'devices': 1}
    """
    options = {"batch_size": workload.batch_sizes[0], "members": 1, "devices": 1}
    config = dict(workload.config)
    if axis == "population" and platform == "cpu":
        options["devices"] = spread_over(value)
    if axis in ("batch", "population", "devices"):
        options[{"batch": "batch_size", "population": "members", "devices": "devices"}[axis]] = value
    elif axis == "image":
        workload = workload._replace(shape=(value, value, workload.shape[2]))
    elif workload.model == "residual":
        config["latent_channels" if axis == "latent" else "channels"] = value
    elif axis == "latent":
        config["latent_dim"] = value
    elif config.get("network") == "conv":
        first = config["channels"][0]
        config["channels"] = tuple(max(1, width * value // first) for width in config["channels"])
    else:
        config["hidden"] = (value,) * len(config["hidden"])
    return workload._replace(config=config), options


def size_of(axis: str, value: int) -> int:
    """Return the number whose power the cost is fitted to."""
    return value**2 if axis == "image" else value


def measure_axis(
    worker: Worker,
    platform: str,
    workload: Workload,
    axis: str,
    values: Sequence[int],
    repeats: int,
    seconds: float,
    report: Callable[[str], None],
) -> list[Row]:
    """Measure the seconds of a step for each value; values that run out of memory are reported and left out."""
    properties: dict[str, dict[str, Any]] = {}
    steps: dict[str, int] = {}
    for value in values:
        report(f"compiling {axis} {value}")
        changed, options = vary(workload, axis, value, platform)
        try:
            properties[str(value)] = worker.ask(
                "build",
                name=str(value),
                module="vaex_loop",
                maker="Loop",
                workload=changed,
                precision="float32",
                strategy="auto",
                **options,
            )
            longer = properties[str(value)].get("longer", 1.0)
            steps[str(value)] = calibrate(
                lambda n, value=value: worker.ask("run", name=str(value), steps=n)[0], longer * seconds
            )
        except OutOfMemory:
            say(f"{axis} {value}: out of memory, left out")
    functions = {name: lambda name=name: Worked(*worker.ask("run", name=name, steps=steps[name])) for name in steps}
    timings = interleave(functions, repeats=repeats, warm_up=0, tell=report)
    worker.ask("drop")
    return [
        {
            "model": workload.name,
            "axis": axis,
            "value": int(name),
            "strategy": properties[name]["strategy"],
            "devices_used": properties[name]["devices_used"],
            "seconds_per_step": timing.median / steps[name],
            "spread": timing.spread,
            "repeats": repeats,
            "dropped": timing.dropped,
            "flops_per_step": properties[name]["flops"],
        }
        for name, timing in timings.items()
    ]


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the exponents of one axis and where its cost is linear; None with fewer than two values."""
    axis = rows[0]["axis"] if rows else ""
    if len(rows) < 2:
        return {
            "axis": axis,
            "exponent": None,
            "standard_error": None,
            "flops_exponent": None,
            "linear": "too few values",
        }
    values = [row["value"] for row in rows]
    sizes = [size_of(axis, value) for value in values]
    costs, flops = [row["seconds_per_step"] for row in rows], [row["flops_per_step"] for row in rows]
    exponent, error = exponents.fit(sizes, costs)
    return {
        "axis": axis,
        "exponent": exponent,
        "standard_error": None if math.isnan(error) else error,
        "flops_exponent": exponents.fit(sizes, flops)[0],
        "linear": exponents.linearity(sizes, costs),
    }


def markdown(rows: Sequence[Row]) -> str:
    """Return the table of one axis and a sentence on its exponent."""
    growth = summary(rows)
    sizes = [size_of(row["axis"], row["value"]) for row in rows]
    costs = [row["seconds_per_step"] for row in rows]
    between = ["-", *(number(slope) for slope in (exponents.local(sizes, costs) if len(rows) > 1 else []))]
    text = tables.table(
        {
            growth["axis"]: [str(row["value"]) for row in rows],
            "ms a step": [number(1e3 * cost) for cost in costs],
            "spread": [spread(row["spread"]) for row in rows],
            "MFLOP a step": [number(row["flops_per_step"] / 1e6) for row in rows],
            "GFLOP/s": [number(row["flops_per_step"] / row["seconds_per_step"] / 1e9) for row in rows],
            "exponent from the row above": between,
            "run as": [row["strategy"] for row in rows],
            "on devices": [str(row["devices_used"]) for row in rows],
            "repeats dropped": [f"{row['dropped']} of {row['repeats']}" for row in rows],
        }
    )
    error = "" if growth["standard_error"] is None else f" ± {growth['standard_error']:.2g}"
    unit = " of pixels" if growth["axis"] == "image" else ""
    exponent = f"exponent{unit} {number(growth['exponent'])}{error} (FLOPs: {number(growth['flops_exponent'])})"
    return f"{text}\n\n{growth['axis']}: {exponent}; {growth['linear']}."


def figure(rows: Sequence[Row]) -> list[Curves]:
    """Return curves of the cost along each axis, beside a linear cost through the largest value, on logarithmic scales."""
    from vaex.plots.records import Curves

    panels = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        measured = [row for row in rows if row["axis"] == axis]
        x = [size_of(axis, row["value"]) for row in measured]
        costs = [row["seconds_per_step"] for row in measured]
        lines = {"measured": costs, "linear": [costs[-1] * size / x[-1] for size in x]}
        label = "pixels" if axis == "image" else axis
        logs = {name: np.log10(line) for name, line in lines.items()}
        panels.append(Curves(np.log10(x), logs, f"log10 of {label}", "log10 of seconds a step", axis))
    return panels


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scaling.py", description=__doc__, epilog=NOTES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="mlp", help=f"one of {', '.join(workloads.NETWORKS)} (default: mlp)")
    add("--axes", type=names, default=tuple(AXES), help=f"what grows (default: {','.join(AXES)})")
    for axis, (values, text) in AXES.items():
        add(f"--{axis}", type=counts, default=values, help=f"{text} (default: {','.join(map(str, values))})")
    add("--device", choices=("cpu", "gpu", "tpu"), help="refuse to run on anything else (default: what jax finds)")
    add("--repeats", type=int, default=11, help="of each value (default: %(default)s)")
    add("--seconds", type=float, default=0.3, help="that a repeat takes, about (default: %(default)s)")
    add("--out", type=pathlib.Path, help="folder for scaling.json, scaling.md and scaling.png")
    return parser


def _checked(flags: argparse.Namespace) -> Workload:
    """Return the network that the flags ask for.

    Raises: UserError for flags that cannot be measured.
    """
    if flags.model not in workloads.NETWORKS:
        raise UserError(f"--model={flags.model}: {nearest(flags.model, workloads.NETWORKS)}")
    unknown = [axis for axis in flags.axes if axis not in AXES]
    if unknown or not flags.axes:
        raise UserError(f"--axes={','.join(flags.axes)}: {nearest(unknown[0] if unknown else '', AXES)}")
    if flags.repeats < 1 or not 0 < flags.seconds < math.inf:
        raise UserError("--repeats must be at least 1 and --seconds more than 0")
    least = 8 if flags.model == "conv64" else 1
    if "image" in flags.axes and min(flags.image) < least:
        raise UserError(f"--image={min(flags.image)}: {flags.model} needs at least {least} pixels a side")
    if flags.out:
        files.make_writable(flags.out)
    return workloads.find(flags.model)


def run(flags: argparse.Namespace) -> dict[str, Any]:
    """Measure all axes, and write the results so far after each.

    Raises: UserError with one line that names the remedy.
    """
    workload = _checked(flags)
    results: dict[str, Any] = {"benchmark": "scaling", "machine": {}, "axes": [], "rows": []}
    text = ""
    for index, axis in enumerate(flags.axes):
        values = sorted(getattr(flags, axis))
        virtual = {"devices": values, "population": [spread_over(value) for value in values]}
        worker = Worker(device=flags.device, devices=max(virtual.get(axis, [1])))
        try:
            machine = worker.ask("call", module="vaex_loop", function="machine", device=flags.device)
            title = f"[{index + 1}/{len(flags.axes)}] {workload.name}, {axis}"
            say(title if results["machine"] else f"{heading(machine)}\n{title}")
            results["machine"] = results["machine"] or machine
            rows = measure_axis(
                worker,
                machine["platform"],
                workload,
                axis,
                values,
                flags.repeats,
                flags.seconds,
                lambda text, title=title: tell(f"{title}: {text}"),
            )
        finally:
            worker.close()
        warn_of_load(rows)
        results["rows"] += rows
        if not rows:
            continue
        results["axes"].append(summary(rows))
        text += f"\n\n{markdown(rows)}"
        print(markdown(rows), "\n", flush=True)
        if flags.out:
            _write(flags.out, results, text)
    return results


def _write(folder: pathlib.Path, results: dict[str, Any], text: str) -> None:
    from vaex import plots

    files.write_json(folder / "scaling.json", tables.without_nan(results))
    with files.atomic_path(folder / "scaling.md") as temporary:
        temporary.write_text(f"{heading(results['machine'])}{text}\n")
    plots.save(figure(results["rows"]), folder / "scaling.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and return the exit code: 0 done, 2 refused flags."""
    flags = _parser().parse_args(arguments)

    def work() -> None:
        run(flags)
        if flags.out:
            say(f"written: {', '.join(str(flags.out / f'scaling.{kind}') for kind in ('json', 'md', 'png'))}")

    return guarded("scaling", work, f"finished axes are in {flags.out}" if flags.out else "")


if __name__ == "__main__":
    sys.exit(main())
