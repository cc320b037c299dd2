"""Threads of the command share arenas of glibc, unless the user has chosen."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

from vaex.cli import allocator
from vaex.cli import main as command

ARENAS = """
import ctypes, threading
from vaex.cli.allocator import share_arenas

{first}
barrier = threading.Barrier(4)

def work():
    kept = []
    barrier.wait()
    for size in range(1000, 4000):
        kept.append(bytearray(size))
    barrier.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
ctypes.CDLL(None).malloc_stats()
"""


def arenas(first: str, **environment: str) -> int:
    """How many arenas of glibc four threads use in a process of their own."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("MALLOC_") and name != "GLIBC_TUNABLES"
    }
    code = ARENAS.format(first=first)
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True
    )
    return sum(line.startswith("Arena ") for line in done.stderr.splitlines())


@pytest.mark.skipif(
    not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="not glibc"
)
def test_threads_share_arenas_unless_the_user_has_chosen():
    few = max(1, len(os.sched_getaffinity(0)) // 2)
    assert arenas("") > min(few, 3)
    assert arenas("share_arenas()") <= few
    assert arenas("share_arenas()", MALLOC_ARENA_MAX="3") > 1
    assert arenas("share_arenas()", GLIBC_TUNABLES="glibc.malloc.arena_max=3") > 1


def test_the_command_sets_its_own_process_and_calls_from_python_do_not(monkeypatch):
    calls = []
    monkeypatch.setattr(command, "share_arenas", lambda: calls.append("shared"))
    monkeypatch.setattr(command, "run_all", lambda parsed: calls.append("run") or 0)
    assert command.main(["--model=vae"]) == 0 and calls == ["run"]
    monkeypatch.setattr(sys, "argv", ["run.py", "--model=vae"])
    assert command.main() == 0 and calls == ["run", "shared", "run"]


def test_the_page_on_performance_gives_the_settings_of_two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    written = " ".join(f"{name}={value}" for name, value in allocator.settings().items())
    assert f"export {written}\n" in (ROOT / "docs" / "performance.md").read_text()
