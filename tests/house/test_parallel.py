"""How pytest is run: folders in parallel, and whatever the command line says instead."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT

WORKER = "'PYTEST_XDIST_WORKER' in os.environ"


@pytest.fixture
def run(tmp_path):
    """(arguments) -> the command in a folder with two tests of where they run; its exit code and what it printed."""
    (tmp_path / "conftest.py").write_text("from helpers.parallel import *")
    for name in ("test_first", "test_second"):
        (tmp_path / f"{name}.py").write_text(f"import os\ndef test_in_a_worker(): assert {WORKER}")

    def command(*arguments):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_XDIST_AUTO_NUM_WORKERS": "2"}
        line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=.", *arguments]
        done = subprocess.run(
            line, cwd=tmp_path, env=environment, capture_output=True, text=True, input="continue\n" * 9
        )
        return done.returncode, done.stdout + done.stderr

    return command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "workers"), [((), "2 workers"), ((".",), "2 workers"), (("-n1", "test_first.py"), "1 worker")]
)
def test_several_processes(run, arguments, workers):
    code, printed = run(*arguments)
    assert code == 0 and workers in printed, printed


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("-n0",), ("-n0", "--pdb"), ("--pdb",), ("test_first.py",)])
def test_this_process(run, arguments):
    code, printed = run(*arguments)
    assert code != 0 and "assert 'PYTEST_XDIST_WORKER' in" in printed and "workers" not in printed, printed
    assert ("(Pdb)" in printed) == ("--pdb" in arguments)


@pytest.mark.slow
def test_a_file_stays_in_one_process(run, tmp_path):
    for name in ("test_first", "test_second"):
        tests = "\n".join(
            f"def test_{i}(): print('\\n{name} in ' + os.environ['PYTEST_XDIST_WORKER'])" for i in range(20)
        )
        (tmp_path / f"{name}.py").write_text(f"import os\n{tests}")
    code, printed = run("-rP")
    where = {line for line in printed.splitlines() if line.startswith("test_") and " in gw" in line}
    assert code == 0 and len(where) == 2, printed


@pytest.mark.slow
def test_laws_come_last(run, tmp_path):
    laws = '@pytest.mark.parametrize("law", [f"{model}-{law}" for model in "abcd" for law in range(9)])\ndef test_law(law): pass'
    (tmp_path / "test_model_laws.py").write_text(f"import pytest\n{laws}")
    for name in "abcd":
        (tmp_path / f"test_{name}.py").write_text("def test_that_starts_a_process(): pass")
    code, printed = run("-n1", "-v", ".")
    order = [line.split("::")[0].split()[-1] for line in printed.splitlines() if "PASSED" in line]
    assert code == 0 and len(order) == 42, printed
    started_first = 2 * 9  # two models are handed out before the rest is put in order
    assert set(order[started_first + 6 :]) == {"test_model_laws.py"}, printed
