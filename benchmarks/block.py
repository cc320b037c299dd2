"""A block of measurements: contestants that are compared with each other, built, checked and then timed in turn."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import peers
from measure import Timing, Worked, interleave
from tables import Row
from workers import TUNED_ALLOCATOR, OutOfMemory, Worker
from workloads import NETWORKS, Workload, matrix_flops

from vaex.errors import UserError

PEAKS = ("product", "copy")


class Setting(NamedTuple):
    """Options that all blocks of a run share.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      population: numbers of members.
      strategies: of the populations.
      peers: names of other frameworks.
      repeats: of each contestant.
      seconds: approximate duration of a repeat.
      peak_size: side of the matrices and length of the array with which peaks are measured; None for the platform's default.
    """

    platform: str
    population: tuple[int, ...]
    strategies: tuple[str, ...]
    peers: tuple[str, ...]
    repeats: int
    seconds: float
    peak_size: tuple[int, int] | None = None


class Contestant(NamedTuple):
    """A training loop to time, and the worker that runs it.

    Attributes:
      name: unique in its block.
      worker: the process.
      properties: what building it reported, such as compile_seconds and flops.
      framework: "vaex" or a peer; "" for a peak of the device.
      strategy: of a population.
      population: number of members.
    """

    name: str
    worker: Worker
    properties: dict[str, Any]
    framework: str = ""
    strategy: str = ""
    population: int = 1


class Pool:
    """Workers by framework, started on first use."""

    def __init__(self, device: str | None):
        self._device, self._workers = device, {}

    def get(self, framework: str, devices: int = 1) -> Worker:
        """Return the worker of "vaex", with its command's allocator, or of a peer; it sees this number of virtual CPU devices."""
        key = framework, devices
        if key not in self._workers:
            extra = TUNED_ALLOCATOR if framework == "vaex" or framework.endswith(peers.TUNED) else None
            self._workers[key] = Worker(device=self._device, devices=devices, extra=extra)
        return self._workers[key]

    def drop(self) -> None:
        """Release what all workers have built."""
        for worker in self._workers.values():
            worker.ask("drop")

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers.values():
            worker.close()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_peers(pool: Pool, loads: Sequence[Workload], setting: Setting, tell: Callable[[str], None]) -> None:
    """Check that every peer computes vaex's losses over two training steps of every network.

    Raises: UserError for a peer with other losses.
    """
    for workload in loads:
        if not (workload.peers and setting.peers):
            continue
        tell(f"{workload.name}: checking that all peers compute the same loss")
        parity = pool.get("vaex").ask("call", module="vaex_loop", function="parity", workload=workload)
        for name in setting.peers:
            built = build_peer(pool, name, workload, workload.batch_sizes[0], "float32", setting.platform)
            losses = built.worker.ask("check", name=built.name, parity=parity)
            peers.check_losses(f"{name} on {workload.name}", parity["losses"], losses)
        pool.drop()


def build_peer(pool: Pool, name: str, workload: Workload, batch_size: int, precision: str, platform: str) -> Contestant:
    """Build a peer in its worker, ready to be checked and to train."""
    peer, worker = peers.find(name), pool.get(name)
    options = peers.as_options(workload, batch_size, precision, platform)
    properties = worker.ask("build", name=name, module=peer.module, maker=peer.maker, **options)
    return Contestant(name, worker, properties, framework=name)


def build_vaex(
    pool: Pool, workload: Workload, batch_size: int, precision: str, setting: Setting, strategy: str, members: int
) -> Contestant:
    """Build vaex's loop for a population. "auto" runs it as vaex's command line does: on a CPU, members divide the cores."""
    name = "vaex" if members == 1 else f"vaex {strategy} {members}"
    devices = spread_over(members) if strategy == "auto" and setting.platform == "cpu" else 1
    worker = pool.get("vaex", devices)
    options = {"workload": workload, "batch_size": batch_size, "precision": precision, "devices": devices}
    properties = worker.ask(
        "build", name=name, module="vaex_loop", maker="Loop", members=members, strategy=strategy, **options
    )
    return Contestant(name, worker, properties, "vaex", strategy, members)


def spread_over(members: int) -> int:
    """Return the number of virtual CPU devices that vaex gives a population on this machine."""
    from vaex.training.population import cpu_devices

    return cpu_devices(members, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def _build(pool: Pool, workload: Workload, batch_size: int, precision: str, setting: Setting, tell):
    """Return the contestants of a block, its peaks among them, and rows of contestants that ran out of memory."""
    key = (pool, workload, batch_size, precision)
    runs = [("solo", 1)]
    runs += [(strategy, members) for members in setting.population if members > 1 for strategy in setting.strategies]
    makers = {
        ("vaex", strategy, members): functools.partial(build_vaex, *key, setting, strategy, members)
        for strategy, members in runs
    }
    for name in setting.peers if workload.peers else ():
        if precision in peers.find(name).precisions:
            arguments = (pool, name, workload, batch_size, precision, setting.platform)
            makers[name, "", 1] = functools.partial(build_peer, *arguments)
    built, failed = [], []
    for (framework, strategy, members), make in makers.items():
        tell(f"building {framework} {strategy} {members}")
        try:
            built.append(make())
        except OutOfMemory:
            failed.append(_lost(framework, strategy, members))
    return built + build_peaks(pool, precision, setting.peak_size), failed


def build_peaks(pool: Pool, precision: str, sizes: tuple[int, int] | None) -> list[Contestant]:
    """Build what measures the peaks of the device; ``sizes`` as ``Setting.peak_size``."""
    vaex, built = pool.get("vaex"), []
    for index, kind in enumerate(PEAKS):
        options = {"kind": kind, "precision": precision, "size": sizes and sizes[index]}
        properties = vaex.ask("build", name=f"peak {kind}", module="vaex_loop", maker="Peak", **options)
        built.append(Contestant(f"peak {kind}", vaex, properties))
    return built


def _lost(framework: str, strategy: str, population: int) -> dict[str, Any]:
    return {"framework": framework, "strategy": strategy, "population": population, "failure": "out of memory"}


def calibrate(run: Callable[[int], float], seconds: float) -> int:
    """Return the number of steps that take about ``seconds``.

    Args:
      run: number of steps -> seconds; called once more to warm up.
      seconds: the goal.
    Example:
      >>> calibrate(lambda steps: 0.001 * steps, 0.5)
      500
    """
    run(1)
    steps, took = 1, run(1)
    while took < 0.3 * seconds:
        steps = max(steps + 1, round(steps * min(10.0, seconds / max(took, 1e-9))))
        took = run(steps)
    return max(1, round(steps * seconds / took))


def measure(
    pool: Pool, workload: Workload, batch_size: int, precision: str, setting: Setting, tell: Callable[[str], None]
) -> list[Row]:
    """Build, check and time one block, and return its rows.

    Raises: UserError where a worker refuses, or no memory is left for the peaks.
    """
    built, failed = _build(pool, workload, batch_size, precision, setting, tell)
    block = {"model": workload.name, "batch_size": batch_size, "precision": precision, "repeats": setting.repeats}
    products = matrix_flops(workload, batch_size) if workload.name in NETWORKS else None
    return timed(pool, block, products, built, failed, setting.seconds, tell)


def timed(
    pool: Pool,
    block: dict[str, Any],
    products: float | None,
    built: list[Contestant],
    failed: list[dict[str, Any]],
    seconds: float,
    tell: Callable[[str], None],
) -> list[Row]:
    """Time contestants in turn, release them, and return their rows.

    Args:
      pool: of their workers.
      block, products: as for ``rows``.
      built: the contestants, peaks among them.
      failed: rows of those that ran out of memory; more may join them.
      seconds: that a repeat takes, about.
      tell: called with a line of progress.
    Raises: UserError where a worker refuses, or no memory is left for the peaks.
    """
    steps: dict[str, int] = {}
    for entry in list(built):
        tell(f"warming up {entry.name}")
        try:
            ask = functools.partial(entry.worker.ask, "run", name=entry.name)
            goal = seconds * entry.properties.get("longer", 1.0)
            steps[entry.name] = calibrate(lambda n, ask=ask: ask(steps=n)[0], goal)
        except OutOfMemory:
            built.remove(entry)
            failed.append(_lost(entry.framework, entry.strategy, entry.population))
    if not all(f"peak {kind}" in steps for kind in PEAKS):
        raise UserError(
            f"{block['model']}, batch {block['batch_size']}: no memory is left to measure the device's peaks; take less"
        )
    functions = {
        entry.name: lambda entry=entry: Worked(*entry.worker.ask("run", name=entry.name, steps=steps[entry.name]))
        for entry in built
    }
    timings = interleave(functions, repeats=block["repeats"], warm_up=0, tell=tell)
    built = [entry._replace(properties=entry.worker.ask("properties", name=entry.name)) for entry in built]
    pool.drop()
    return rows(block, products, built, timings, steps, failed)


def rows(
    block: dict[str, Any],
    products: float | None,
    built: Sequence[Contestant],
    timings: dict[str, Timing],
    steps: dict[str, int],
    failed: Sequence[dict[str, Any]] = (),
) -> list[Row]:
    """Return one row of numbers per contestant, with ratios to a single vaex model.

    A peer trains the same network, so the same operations count for it; the bytes that it moves are unknown.

    Args:
      block: columns that all rows share.
      products: operations of one model's matrix products, which are compared with the peak; None where they are unknown, and
        XLA's count stands in, which includes the overhead of a lowering, such as the borders of a convolution.
      built: the contestants.
      timings: name -> timing.
      steps: name -> steps of a repeat.
      failed: rows of contestants that ran out of memory.
    """
    rate = {name: steps[name] / timing.median for name, timing in timings.items()}
    properties = {entry.name: entry.properties for entry in built}
    product, copy = (rate[f"peak {kind}"] * properties[f"peak {kind}"]["per_step"] for kind in PEAKS)
    solo = properties.get("vaex", {})
    results = []
    for entry in built:
        if not entry.framework:
            continue
        flops = entry.properties.get("flops", solo.get("flops"))
        useful = products * entry.population if products else flops
        solo_bytes = solo.get("bytes")
        moved = solo_bytes * entry.population if entry.framework == "vaex" and solo_bytes else None
        speed, timing = rate[entry.name], timings[entry.name]
        relative = speed * entry.population / rate["vaex"] if "vaex" in rate else None
        results.append(
            {
                **block,
                "framework": entry.framework,
                "strategy": entry.strategy,
                "population": entry.population,
                "run_as": entry.properties.get("strategy"),
                "devices": entry.properties.get("devices_used"),
                "steps_per_second": speed,
                "examples_per_second": speed * block["batch_size"],
                "model_examples_per_second": speed * block["batch_size"] * entry.population,
                "per_model_ratio": relative if entry.population > 1 else None,
                "vaex_ratio": 1 / relative if relative and entry.framework != "vaex" else None,
                "spread": timing.spread,
                "dropped": timing.dropped,
                "steps_per_repeat": steps[entry.name],
                "compile_seconds": entry.properties.get("compile_seconds"),
                "memory_bytes": entry.properties.get("memory_bytes"),
                "flops_per_step": flops,
                "products_per_step": products and products * entry.population,
                "bytes_per_step": moved,
                "product_peak": product,
                "copy_peak": copy,
                "product_fraction": speed * useful / product if useful else None,
                "bandwidth_fraction": speed * moved / copy if moved else None,
            }
        )
    return results + [{**block, "product_peak": product, "copy_peak": copy, **row} for row in failed]
