"""A pytest plugin: folders are tested by several processes at once, unless the command line says otherwise."""

from __future__ import annotations

import os
import pathlib

import pytest
from xdist.scheduler import LoadScopeScheduling

MOST_PROCESSES = 8
LAWS = "test_model_laws.py"  # its tests are named [MODEL-LAW]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Use ``-n auto`` where neither ``-n`` nor a debugger is asked for and everything named is a folder; a test or a file of
    tests runs in this process."""
    option = config.option
    if "PYTEST_XDIST_WORKER" in os.environ or not hasattr(option, "numprocesses"):
        return
    in_this_process = option.usepdb or option.trace or option.collectonly
    if option.numprocesses is None and not in_this_process and all(pathlib.Path(name).is_dir() for name in config.args):
        option.numprocesses, option.maxprocesses = "auto", option.maxprocesses or MOST_PROCESSES
    if option.numprocesses and option.dist == "no":
        option.dist = "loadscope"


class KeepFilesTogether(LoadScopeScheduling):
    """One process runs all tests of a file, which share fixtures and compiled programs; of the laws, all of a model.

    Files with many tests come first, as xdist orders them, and the laws last: a model takes seconds, so that all processes end
    together, where a file that starts processes of its own may take minutes.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return f"{file}[{test.partition('[')[2].partition('-')[0]}]" if file.endswith(LAWS) else file

    def schedule(self) -> None:
        super().schedule()
        for scope in [scope for scope in self.workqueue if LAWS in scope]:
            self.workqueue.move_to_end(scope)


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> KeepFilesTogether | None:
    return KeepFilesTogether(config, log) if config.option.dist == "loadscope" else None
