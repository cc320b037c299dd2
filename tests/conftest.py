"""What every test runs under: virtual devices, a compiler in a hurry, a cache of its own, and folders tested in parallel.

The environment is set before jax starts, and the processes that tests start inherit it: eight virtual CPU devices for the sharding
laws, XLA's older emitters and no LLVM optimiser. Most programs of the tests run once and are compared within a tolerance; without
the optimiser they are ready in a third of the time. Tests marked ``optimised`` have it: they compare bits, or show how it rounds.
XLA_FLAGS that are set already stay: ``XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m pytest -m optimised`` compiles
as users do.
"""

import contextlib
import ctypes
import gc
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType

from helpers.compiler import QUICK_COMPILER

os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {QUICK_COMPILER}".strip())
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import pytest
from helpers import ROOT
from helpers.doctests import pytest_collection_modifyitems
from helpers.parallel import pytest_cmdline_main, pytest_xdist_make_scheduler

__all__ = ["pytest_cmdline_main", "pytest_collection_modifyitems", "pytest_xdist_make_scheduler"]

MEMORY = 3 * 2**30  # bytes by which a worker may grow before it forgets compiled programs
kept = 0  # bytes that a worker held after it last did
first_states: dict[tuple[str, str], Mapping] = {}  # of NumPy's generators, by their module and name


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    statm = pathlib.Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """What is imported and collected stays: Python's collector looks at none of it, which takes a third of the time here and a
    twentieth of the tests'. It looks at the rest a tenth as often as it would."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10 * gc.get_threshold()[0], *gc.get_threshold()[1:])
        gc.enable()


def restart_generators(module: ModuleType) -> None:
    """Set the generators of a module of tests to where they were after its import: a test draws the same numbers alone and after
    others."""
    import numpy as np

    for name, value in vars(module).items():
        if isinstance(value, np.random.Generator):
            value.bit_generator.state = first_states.setdefault((module.__name__, name), value.bit_generator.state)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The optimiser is on for tests marked ``optimised`` alone; numbers are drawn anew for each."""
    import jax

    if isinstance(item, pytest.Function):
        restart_generators(item.module)
    jax.config.update("jax_disable_most_optimizations", not item.get_closest_marker("optimised"))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between modules and between the models of the laws, compiled programs are dropped where a worker has made many: all
    together they take 7 GB."""
    global kept

    def shares_programs(test: pytest.Item) -> tuple:
        return test.path, getattr(test, "callspec", None) and test.callspec.params.get("model")

    import jax

    jax.config.update("jax_disable_most_optimizations", True)  # doctests of the package have no conftest that sets it
    if nextitem is None or shares_programs(item) == shares_programs(nextitem) or resident() < kept + MEMORY:
        return
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a C library that is not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    kept = resident()


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> pathlib.Path:
    """A temporary folder that all processes of this session of pytest share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def own_cache(shared_folder) -> None:
    """No test reads or writes the user's compiled programs; pytest's workers share theirs."""
    os.environ["VAEX_CACHE"] = str(shared_folder / "cache")


@pytest.fixture(scope="session")
def trained_runs(shared_folder):
    """(flags) -> the directory of a trained run that tests look at, and don't change."""
    from helpers.trained_runs import TrainedRuns

    return TrainedRuns(shared_folder / "trained")


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """The folder of real data sets beside the checkout. Tests that need it are skipped where it is missing; in CI they fail where
    only the data are."""
    shared = ROOT.parent / "shared"
    if not (shared / "data").is_dir():
        missing = pytest.fail if os.environ.get("CI") and shared.is_dir() else pytest.skip
        missing("../shared/data is not beside the checkout")
    return shared / "data"


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """A block in which no file can grow beyond so many bytes: the system itself refuses the write, as on a full disk."""
    resource = pytest.importorskip("resource", reason="this platform has no limits on the size of files")

    @contextlib.contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


# they hold no doctests, and modules of one name can't all be collected
collect_ignore_glob = ["conftest.py", "*/conftest.py"]
