"""The gate of benchmarks/measure.py: what this process and its children do is ours, what others do drops a repeat."""

import os
import pathlib
import subprocess
import sys
import time

import pytest

BURN = "import time\nwhile time.process_time() < 0.3: pass"


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).resolve().parents[2] / "benchmarks"))
    pytest.importorskip("resource", reason="needs CPU times of children")
    import measure

    return measure


def child() -> None:
    subprocess.run([sys.executable, "-c", BURN], check=True)


def ours_alone() -> float:
    """CPU seconds of a machine on which nobody else works, in its own, coarser unit."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def test_a_child_s_work_is_not_foreign(measure, monkeypatch):
    monkeypatch.setattr(measure, "_busy", ours_alone)
    timing = measure.interleave({"child": child}, repeats=2, warm_up=0)["child"]
    assert timing.dropped == 0 and len(timing.seconds) == 2


def test_foreign_work_drops_a_repeat(measure, monkeypatch):
    began = time.perf_counter()
    monkeypatch.setattr(measure, "_busy", lambda: ours_alone() + (time.perf_counter() - began) / 2)
    timing = measure.interleave({"sleep": lambda: time.sleep(0.2)}, repeats=2, warm_up=0)["sleep"]
    assert timing.dropped == 2 and len(timing.seconds) == 2  # none is clean, so all are shown


def test_a_function_may_measure_for_itself(measure, monkeypatch):
    monkeypatch.setattr(measure, "_busy", lambda: None)
    timings = measure.interleave({"own": lambda: 7.0, "clock": lambda: None}, repeats=3)
    assert timings["own"].seconds == [7.0, 7.0, 7.0] and max(timings["clock"].seconds) < 7.0
