"""The page for users of Pythae shows one run in both libraries: what it prints is printed, with equal losses."""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT

PAGE = (ROOT / "docs" / "migration" / "from_pythae.md").read_text()
MISSING = [name for name in ("torch", "pythae") if importlib.util.find_spec(name) is None]
SCRIPT, SHOWN = re.findall(r"<!-- test: same run -->\n```python\n(.*?)```\n```text\n(.*?)```", PAGE, re.DOTALL)[0]
LINE = re.compile(r"step (\d+): vaex (\d+\.\d{3}), Pythae (\d+\.\d{3})")


def losses(text: str) -> np.ndarray:
    """Step, loss of vaex and loss of Pythae, a row for each line."""
    rows = LINE.findall(text)
    assert len(rows) == len(text.strip().splitlines())
    return np.array(rows, float)


def test_the_losses_that_the_page_shows_are_equal():
    step, ours, theirs = losses(SHOWN).T
    assert step.tolist() == [0, 1, 10, 100] and ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    compile(SCRIPT, "from_pythae.md", "exec")


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} missing; pip install -e '.[benchmarks]'")
def test_one_run_in_vaex_and_pythae_has_one_loss(tmp_path):
    path = tmp_path / "same_run.py"
    path.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    printed, shown = losses(done.stdout), losses(SHOWN)
    np.testing.assert_allclose(printed[:, 1], printed[:, 2], rtol=1e-5)  # float32, also after a hundred steps
    np.testing.assert_allclose(printed, shown, rtol=1e-3)  # jax and torch of other versions round differently
