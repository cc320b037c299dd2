"""One bit flipped in every file of a run directory in turn: it is noticed, or does no harm."""

import pathlib
import random
import re
import shutil
import warnings

import numpy as np
import pytest
from helpers.trained_runs import TWO_MEMBERS

import vaex
from vaex.errors import UserError
from vaex.results.compare import compare, read_log_likelihoods, read_runs
from vaex.runs.config_file import identity
from vaex.training.metrics import read_rows

X = np.random.default_rng(0).integers(0, 17, (3, 8, 8, 1)).astype(np.uint8)
NUMBERS_ARE_CHECKED = {
    "config.json",
    "summary.json",
    "metrics.jsonl",
    "timings.jsonl",
}  # the headers of an .npz hold bits that nobody reads


def flip_any_bit(path: pathlib.Path, seed: int) -> None:
    content = bytearray(path.read_bytes())
    draw = random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def flip_a_number(path: pathlib.Path, seed: int) -> None:
    """Flip a bit in the first digit of a number: unlike a last digit, the "e" of "1e-5" or the end of a line, it has a meaning."""
    content = bytearray(path.read_bytes())
    places = [match.start() for match in re.finditer(rb"(?<![\w.])[0-9]", content)]
    content[random.Random(seed).choice(places)] ^= 1
    path.write_bytes(bytes(content))


def read(directory: pathlib.Path) -> dict:
    """All that is ever read of a run, in a directory whose name does not matter."""
    run, summaries = vaex.load(directory), read_runs([directory])
    kept = read_log_likelihoods(summaries)
    return {
        "step": run.step,
        "settings": identity(run.settings),
        "reconstructions": np.asarray(run[1].reconstruct(X)).tolist(),
        "summary": run.summary,
        "rows": run.rows(),
        "timings": read_rows(directory / "timings.jsonl"),
        "log-likelihoods": [kept[name].values.tolist() for name in kept],
        "table": compare(summaries, kept),
    }


def outcome(directory: pathlib.Path, expected: dict) -> str:
    """ "noticed" or "harmless"; anything else is wrong."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            given = read(directory)
        except UserError as error:
            assert "\n" not in str(error)
            return "noticed"
    if caught or not given["log-likelihoods"]:
        return "noticed"
    for name, value in expected.items():
        assert given[name] == value, name
    return "harmless"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_flipped_bit_is_noticed_or_harmless(trained_runs, tmp_path, seed):
    run, copy = (
        pathlib.Path(shutil.copytree(trained_runs(*TWO_MEMBERS), tmp_path / "run" / "a")),
        tmp_path / "copy" / "a",
    )
    expected, outcomes, of_numbers = read(run), {}, {}
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) > 20 and {path.name for path in files} > NUMBERS_ARE_CHECKED

    def outcome_of(flip, path):
        shutil.copytree(run, copy)
        flip(copy / path, seed)
        try:
            return outcome(copy, expected)
        finally:
            shutil.rmtree(copy)

    for path in files:
        outcomes[str(path)] = outcome_of(flip_any_bit, path)
        if path.name in NUMBERS_ARE_CHECKED:
            of_numbers[path.name] = outcome_of(flip_a_number, path)
    assert of_numbers == dict.fromkeys(NUMBERS_ARE_CHECKED, "noticed")
    # of the checkpoint that is read, at least the values
    assert any(path.startswith("checkpoints/20") and text == "noticed" for path, text in outcomes.items())


@pytest.mark.parametrize("file", ["summary.json", "metrics.jsonl", "timings.jsonl"])
def test_another_digit_is_noticed(trained_runs, tmp_path, file):
    run = trained_runs.copied(tmp_path / "run", *TWO_MEMBERS)
    content = (run / file).read_text()
    place = next(at for at in range(len(content) // 2, len(content)) if content[at] in "123456")
    (run / file).write_text(content[:place] + "7" + content[place + 1 :])
    if file == "summary.json":
        with pytest.warns(UserWarning, match="summary.json: holds other values than were written"):
            assert vaex.load(run).summary is None
        with pytest.raises(UserError, match=r"its summary\.json holds other values than were written"):
            read_runs([run])
    else:
        with pytest.warns(UserWarning, match=r"cannot read line \d+, left out; the other rows are kept"):
            assert len(read_rows(run / file)) == content.count("\n") - 1
