"""experiments/inference.py: its tables beside the truth."""

import pytest
from helpers.scripts import script


@pytest.mark.slow
def test_the_bimodal_example_covers_and_seeks(tmp_path, capsys):
    assert script("inference").main(["--example=bimodal", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "inference_bimodal.png").exists()
    rows = [line.rsplit(maxsplit=5) for line in capsys.readouterr().out.splitlines()]
    deviation = {row[0].strip(): float(row[2]) for row in rows if len(row) == 6 and row[2].replace(".", "").isdigit()}
    assert deviation["reverse KL"] < 1 < 2 < deviation["forward KL"] < deviation["chi bound"]
    assert abs(deviation["forward KL"] - deviation["truth"]) < 0.05
    assert abs(deviation["reverse KL, mixture"] - deviation["truth"]) < 0.05
