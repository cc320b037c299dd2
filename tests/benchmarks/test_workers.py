"""Worker processes: what they answer, and what their failures become."""

import importlib
import textwrap

import pytest

from vaex.errors import UserError

workers = importlib.import_module("workers")
FLAG = "--xla_cpu_enable_fast_math=false"


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "answers.py").write_text(
        textwrap.dedent("""
            import ctypes, os
            from vaex.errors import UserError

            def variable(name): print("printed"); return os.environ.get(name)
            def refuse(): raise UserError("one thing to fix")
            def exhaust(): raise RuntimeError("RESOURCE_EXHAUSTED: no memory")
            def divide(): return 1 / 0
            def die(code): os._exit(code)

            class Sleeper:
                properties = {"kind": "sleeper"}
                def run(self, steps): sum(range(10_000 * steps))
        """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("XLA_FLAGS", f"{FLAG} --xla_force_host_platform_device_count=8")
    started = workers.Worker(device="cpu", devices=3, extra=workers.TUNED_ALLOCATOR)
    yield started
    started.close()


def test_a_worker_lives_through_failures(worker):
    def call(function, **arguments):
        return worker.ask("call", module="answers", function=function, **arguments)

    assert call("variable", name="MALLOC_TOP_PAD_") == workers.TUNED_ALLOCATOR["MALLOC_TOP_PAD_"]
    assert call("variable", name="XLA_FLAGS").split() == [
        FLAG,
        "--xla_force_host_platform_device_count=3",
    ]
    with pytest.raises(UserError, match="one thing to fix"):
        call("refuse")
    with pytest.raises(workers.OutOfMemory, match="RESOURCE_EXHAUSTED"):
        call("exhaust")
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process:.*ZeroDivisionError"):
        call("divide")
    assert worker.ask("build", name="a", module="answers", maker="Sleeper") == {"kind": "sleeper"}
    seconds, cpu_seconds = worker.ask("run", name="a", steps=100)
    assert 0 < cpu_seconds < 1.5 * seconds + 0.1
    worker.ask("drop")
    with pytest.raises(RuntimeError, match="KeyError"):
        worker.ask("run", name="a", steps=1)


def test_the_death_of_a_worker_is_reported(worker):
    with pytest.raises(RuntimeError, match="ended with code 7 during call"):
        worker.ask("call", module="answers", function="die", code=7)
