"""benchmarks/callbacks.py: blocks in turn, and the command."""

import json
import sys

import pytest
from helpers import ROOT

from vaex.training.callbacks import Callback

pytestmark = pytest.mark.nightly


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "callbacks", raising=False)
    import callbacks

    return callbacks


def test_every_other_block_is_passed_on(script):
    steps = []
    callback = Callback(on_rows=lambda rows, stage: steps.append(rows[-1]["step"]))
    blocks = script.AlternatingBlocks([callback], 2)
    for step in range(10, 110, 10):
        blocks.on_rows([{"step": step}], "model")
    assert steps == [30, 40, 70, 80]
    assert len(blocks.seconds[True]) == 2 and len(blocks.seconds[False]) == 2
    assert all(seconds > 0 for both in blocks.seconds.values() for seconds in both)


@pytest.mark.slow
def test_the_command_prints_both(script, capsys):
    pytest.importorskip("tensorboardX")
    assert script.main(["--steps=200", "--log_every=1", "--block=1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["blocks"] > 0 and result["rows"] > 0 and result["step_with_microseconds"] > 0
    with pytest.raises(SystemExit, match="give more --steps"):
        script.main(["--steps=2", "--log_every=1", "--block=9"])
