"""A pytest plugin: folders are tested by several processes at once, unless the command line says otherwise."""

from __future__ import annotations

import os
import pathlib

import pytest
from xdist.scheduler import LoadGroupScheduling

MOST_PROCESSES = 8


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
        option.dist = "loadgroup"


class KeepFilesTogether(LoadGroupScheduling):
    """One process runs all tests of a file, which share fixtures and compiled programs, or of an ``xdist_group`` in it."""

    def _split_scope(self, nodeid: str) -> str:
        group = super()._split_scope(nodeid)
        return group if group != nodeid else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log) -> KeepFilesTogether | None:
    return KeepFilesTogether(config, log) if config.option.dist == "loadgroup" else None
