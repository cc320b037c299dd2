"""What a run writes: rows that survive a torn line and a resume, and progress on terminals and elsewhere."""

import io
import json

import numpy as np
import pytest

from vaex.training import progress
from vaex.training.metrics import Rows, metric_rows, read_rows
from vaex.training.progress import Progress


def written(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(len(row.pop("crc32")) == 8 for row in rows)
    return rows


def test_rows_are_json_lines_in_order(tmp_path):
    rows = Rows(tmp_path / "deep" / "metrics.jsonl", keep_until=0)
    assert rows.path.read_text() == ""
    rows.append([{"step": 5, "elbo": [-90.5, -80.25]}, {"step": 10, "elbo": [-70.0, -60.0]}])
    rows.append([])
    rows.append([{"step": 15, "elbo": [-1.0, -2.0]}])
    assert rows.path.read_text().endswith("}\n")
    assert [row["step"] for row in written(rows.path)] == [5, 10, 15]
    assert read_rows(rows.path) == written(rows.path)


@pytest.mark.parametrize(
    ("keep_until", "kept"), [(0, []), (4, []), (5, [5]), (14, [5, 10]), (15, [5, 10, 15]), (99, [5, 10, 15])]
)
def test_a_resume_cuts_back(tmp_path, keep_until, kept):
    path = tmp_path / "metrics.jsonl"
    Rows(path, keep_until=0).append([{"step": step} for step in (5, 10, 15)])
    again = Rows(path, keep_until=keep_until)
    again.append([{"step": 20}])
    assert [row["step"] for row in written(path)] == [*kept, 20]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"], "nothing temporary stays"


@pytest.mark.parametrize("length", range(1, 30))
def test_a_last_line_torn_at_any_place_is_left_out(tmp_path, length):
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"step": 10, "elbo": [-7.5]}) + "\n"
    path.write_text(json.dumps({"step": 5, "elbo": [-9.0]}) + "\n" + line[:length])
    complete = length >= len(line) - 1
    expected = [5, 10] if complete else [5]
    assert [row["step"] for row in read_rows(path)] == expected
    Rows(path, keep_until=99).append([{"step": 15}])
    assert [row["step"] for row in written(path)] == [*expected, 15]


def test_an_unreadable_line_costs_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5}\n\x00\x00\n{"step": 15}\n[3]\n{"step": 20}\n{"st')
    with pytest.warns(UserWarning, match="cannot read line 2, 4, left out"):
        assert [row["step"] for row in read_rows(path)] == [5, 15, 20]


@pytest.mark.parametrize("tail", ["1", "null", "\0\0\0\0", '"step"', "[5]", '{"other": 3}'])
def test_what_is_no_row_is_left_out(tmp_path, tail):
    """A crash may leave other bytes than ours, some of which are JSON."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 5}\n' + tail)
    assert read_rows(path) == [{"step": 5}]
    Rows(path, keep_until=5)
    assert written(path) == [{"step": 5}]


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "missing.jsonl") == []


def test_rows_of_a_chunk():
    names = ("elbo", "finite", "kl")
    chunk = np.array(
        [[[-1.5, 1.0, 0.1], [-1.0, 1.0, 0.2]], [[-2.5, 1.0, 0.3], [-2.0, 1.0, np.nan]]], np.float32
    )  # [p=2, r=2, m=3]
    first, second = metric_rows(names, chunk, first_row=3, log_every=10)
    assert first == {"step": 40, "elbo": [-1.5, -2.5], "kl": [float(np.float32(0.1)), float(np.float32(0.3))]}
    assert second["step"] == 50 and second["kl"][1] is None, "JSON has no nan"
    text = json.dumps([first, second], allow_nan=False)
    assert np.float32(json.loads(text)[0]["kl"][0]) == np.float32(0.1), "float32 survives the text bit for bit"
    assert metric_rows(names, chunk[:, :0], first_row=3, log_every=10) == []


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Stands in for the time module; moves only when told."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(progress, "time", fake)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    return fake


def test_without_a_terminal_there_are_plain_lines(clock):
    stream = io.StringIO()
    progress = Progress("beta_vae", 0, 1000, 128, ["elbo", "kl", "missing"], stream)
    for step in range(
        100, 1001, 100
    ):  # a chunk each four seconds: a line at the start, after ten seconds, and at the end
        progress.update(step, 100, 4.0, {"elbo": -step / 10, "kl": 2.345, "other": 1.0})
        clock.now += 4.0
    progress.close()
    lines = stream.getvalue().splitlines()
    assert [line.split()[2] for line in lines] == ["100/1000", "400/1000", "700/1000", "1000/1000"]
    assert lines[0] == "beta_vae: step 100/1000  elbo -10.00  kl 2.35"
    assert lines[1] == "beta_vae: step 400/1000  25 steps/s  3,200 examples/s  elbo -40.00  kl 2.35  24 s left"
    assert lines[-1].endswith("0 s left")
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_on_a_terminal_there_is_one_bar(clock):
    stream = Terminal()
    progress = Progress("beta_vae", 200, 1000, 128, ["elbo"], stream)
    progress.update(600, 400, 2.0, {"elbo": -12.5})
    progress.update(1000, 400, 2.0, {"elbo": -10.25})
    progress.close()
    text = stream.getvalue()
    assert "\x1b[" in text and "━" in text
    assert "beta_vae" in text and "1000/1000" in text and "elbo -10.25" in text and "200 steps/s" in text
    assert "step 600/1000  " not in text, "no plain lines beside the bar"
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_a_dumb_terminal_gets_lines(clock, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    progress = Progress("vae", 0, 10, 1, [], stream)
    progress.update(10, 10, 1.0, {})
    progress.close()
    assert stream.getvalue().startswith("vae: step 10/10") and "\x1b" not in stream.getvalue()


def test_speed_is_smoothed(clock):
    stream = io.StringIO()
    progress = Progress("vae", 0, 30, 2, [], stream)
    progress.update(1, 1, 5.0, {})  # says nothing of the speed
    progress.update(10, 10, 1.0, {})
    progress.update(30, 20, 1.0, {})  # 0.7 * 10 + 0.3 * 20
    assert "13 steps/s  26 examples/s" in stream.getvalue().splitlines()[-1]


def test_a_first_chunk_that_loads_the_program_predicts_nothing(clock):
    """One step in 0.8 s, then 400 steps a second: of 2,000 steps 5 s are left, not 27 minutes."""
    stream = io.StringIO()
    progress = Progress("vae", 0, 2000, 1, [], stream)
    progress.update(1, 1, 0.8, {})
    clock.now += 10.0
    progress.update(9, 8, 0.02, {})
    first, second = stream.getvalue().splitlines()
    assert "left" not in first and "steps/s" not in first and second.endswith("  5 s left")


def test_a_chunk_without_duration_does_not_divide_by_zero(clock):
    progress = Progress("vae", 0, 10, 1, [], io.StringIO())
    progress.update(10, 10, 0.0, {})
