"""One block of measurements: everything that is compared with each other, built, checked and then timed in turn."""

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
    """How the blocks of a run are measured. ``seconds``: about how long a repeat takes; ``peak_size``: elements on a side of
    the matrices and in the array that the peaks are measured with, or None for the platform's."""

    platform: str
    population: tuple[int, ...]
    strategies: tuple[str, ...]
    peers: tuple[str, ...]
    repeats: int
    seconds: float
    peak_size: tuple[int, int] | None = None


class Contestant(NamedTuple):
    """Something to time, and the worker that does it. ``name`` is unique in its block."""

    name: str
    worker: Worker
    facts: dict[str, Any]
    framework: str = ""
    strategy: str = ""
    population: int = 1


class Pool:
    """Workers by framework, started when they are first needed."""

    def __init__(self, device: str | None):
        self._device, self._workers = device, {}

    def get(self, framework: str, devices: int = 1) -> Worker:
        """The worker of "vaex" or of a peer that sees so many virtual CPU devices."""
        key = framework, devices
        if key not in self._workers:
            extra = TUNED_ALLOCATOR if framework.endswith(peers.TUNED) else None
            self._workers[key] = Worker(device=self._device, devices=devices, extra=extra)
        return self._workers[key]

    def drop(self) -> None:
        """Let all workers forget what they have built."""
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
    """Let every peer repeat two of vaex's steps on every network.

    Raises: UserError for one that gives other losses.
    """
    for workload in loads:
        if not (workload.peers and setting.peers):
            continue
        tell(f"{workload.name}: checking that all peers compute the same loss")
        parity = pool.get("vaex").ask("call", module="vaex_loop", function="parity", workload=workload)
        for name in setting.peers:
            built = build_peer(pool, name, workload, workload.batch_sizes[0], "float32", setting.platform)
            found = built.worker.ask("check", name=built.name, parity=parity)
            peers.check_losses(f"{name} on {workload.name}", parity["losses"], found)
        pool.drop()


def build_peer(pool: Pool, name: str, workload: Workload, batch_size: int, precision: str, platform: str) -> Contestant:
    """A peer, ready to be checked and to train."""
    peer, worker = peers.find(name), pool.get(name)
    options = peers.as_options(workload, batch_size, precision, platform)
    facts = worker.ask("build", name=name, module=peer.module, maker=peer.maker, **options)
    return Contestant(name, worker, facts, framework=name)


def build_vaex(
    pool: Pool, workload: Workload, batch_size: int, precision: str, setting: Setting, strategy: str, members: int
) -> Contestant:
    """vaex's loop for a population. Under "auto" it runs as from vaex's command line: on a CPU members divide its cores."""
    name = "vaex" if members == 1 else f"vaex {strategy} {members}"
    devices = spread_over(members) if strategy == "auto" and setting.platform == "cpu" else 1
    worker = pool.get("vaex", devices)
    options = {"workload": workload, "batch_size": batch_size, "precision": precision, "devices": devices}
    facts = worker.ask(
        "build", name=name, module="vaex_loop", maker="Loop", members=members, strategy=strategy, **options
    )
    return Contestant(name, worker, facts, "vaex", strategy, members)


def spread_over(members: int) -> int:
    """Virtual CPU devices that vaex gives a population on this machine."""
    from vaex.training.population import cpu_devices

    return cpu_devices(members, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def _build(pool: Pool, workload: Workload, batch_size: int, precision: str, setting: Setting, tell):
    """The contestants of a block and its peaks, and rows of those for which memory did not suffice."""
    key = (pool, workload, batch_size, precision)
    wanted = [("solo", 1)]
    wanted += [(strategy, p) for p in setting.population if p > 1 for strategy in setting.strategies]
    makers = {("vaex", *one): functools.partial(build_vaex, *key, setting, *one) for one in wanted}
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
    vaex = pool.get("vaex")
    for index, kind in enumerate(PEAKS):
        size = setting.peak_size and setting.peak_size[index]
        facts = vaex.ask(
            "build", name=f"peak {kind}", module="vaex_loop", maker="Peak", kind=kind, precision=precision, size=size
        )
        built.append(Contestant(f"peak {kind}", vaex, facts))
    return built, failed


def _lost(framework: str, strategy: str, population: int) -> dict[str, Any]:
    return {"framework": framework, "strategy": strategy, "population": population, "failure": "out of memory"}


def calibrate(run: Callable[[int], float], seconds: float) -> int:
    """How many steps take about ``seconds``, given how long a number of them takes; called once more to warm up.

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
    """The rows of one block.

    Raises: UserError where a worker refuses.
    """
    built, failed = _build(pool, workload, batch_size, precision, setting, tell)
    steps: dict[str, int] = {}
    for one in list(built):
        tell(f"warming up {one.name}")
        try:
            ask = functools.partial(one.worker.ask, "run", name=one.name)
            seconds = setting.seconds * one.facts.get("longer", 1.0)
            steps[one.name] = calibrate(lambda n, ask=ask: ask(steps=n)[0], seconds)
        except OutOfMemory:
            built.remove(one)
            failed.append(_lost(one.framework, one.strategy, one.population))
    if not all(f"peak {kind}" in steps for kind in PEAKS):
        raise UserError(
            f"{workload.name}, batch {batch_size}: no memory is left to measure the device's peaks; take less"
        )
    functions = {
        one.name: lambda one=one: Worked(*one.worker.ask("run", name=one.name, steps=steps[one.name])) for one in built
    }
    timings = interleave(functions, repeats=setting.repeats, warm_up=0, tell=tell)
    built = [one._replace(facts=one.worker.ask("facts", name=one.name)) for one in built]
    pool.drop()
    block = {"model": workload.name, "batch_size": batch_size, "precision": precision, "repeats": setting.repeats}
    products = matrix_flops(workload, batch_size) if workload.name in NETWORKS else None
    return rows(block, products, built, timings, steps, failed)


def rows(
    block: dict[str, Any],
    products: float | None,
    built: Sequence[Contestant],
    timings: dict[str, Timing],
    steps: dict[str, int],
    failed: Sequence[dict[str, Any]] = (),
) -> list[Row]:
    """What was measured as rows of numbers, the ratios to one model alone among them.

    A peer trains the same network, so the same operations count for it; the bytes that it moves are not known. ``products``:
    operations of one model's matrix products, which are then what is compared with the peak. XLA's own count is taken where
    they are not known; it holds what a lowering does beyond them, such as the borders of a convolution.
    """
    rate = {name: steps[name] / timing.median for name, timing in timings.items()}
    facts = {one.name: one.facts for one in built}
    product, copy = (rate[f"peak {kind}"] * facts[f"peak {kind}"]["per_step"] for kind in PEAKS)
    solo = facts.get("vaex", {})
    found = []
    for one in built:
        if not one.framework:
            continue
        flops = one.facts.get("flops", solo.get("flops"))
        useful = products * one.population if products else flops
        bytes_of_one = solo.get("bytes")
        moved = bytes_of_one * one.population if one.framework == "vaex" and bytes_of_one else None
        speed, timing = rate[one.name], timings[one.name]
        relative = speed * one.population / rate["vaex"] if "vaex" in rate else None
        found.append(
            {
                **block,
                "framework": one.framework,
                "strategy": one.strategy,
                "population": one.population,
                "run_as": one.facts.get("strategy"),
                "devices": one.facts.get("devices_used"),
                "steps_per_second": speed,
                "examples_per_second": speed * block["batch_size"],
                "model_examples_per_second": speed * block["batch_size"] * one.population,
                "per_model_ratio": relative if one.population > 1 else None,
                "vaex_ratio": 1 / relative if relative and one.framework != "vaex" else None,
                "spread": timing.spread,
                "dropped": timing.dropped,
                "steps_per_repeat": steps[one.name],
                "compile_seconds": one.facts.get("compile_seconds"),
                "memory_bytes": one.facts.get("memory_bytes"),
                "flops_per_step": flops,
                "products_per_step": products and products * one.population,
                "bytes_per_step": moved,
                "product_peak": product,
                "copy_peak": copy,
                "product_fraction": speed * useful / product if useful else None,
                "bandwidth_fraction": speed * moved / copy if moved else None,
            }
        )
    lost = [{**block, "product_peak": product, "copy_peak": copy, **one} for one in failed]
    return found + lost
