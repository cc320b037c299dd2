"""One bit flipped in files of a run directory in turn: it is noticed, or does no harm."""

import pathlib
import random
import shutil
import warnings

import numpy as np
import pytest
from helpers.trained_runs import TWO_MEMBERS

import vaex
from vaex.errors import UserError
from vaex.runs.config_file import identity

X = np.random.default_rng(0).integers(0, 17, (3, 8, 8, 1)).astype(np.uint8)
NOT_READ = ("summary.json", "metrics.jsonl", "timings.jsonl", "log_likelihood.npz")  # by what is compared here


def flipped(path: pathlib.Path, seed: int) -> None:
    content = bytearray(path.read_bytes())
    draw = random.Random(seed)
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


@pytest.mark.slow
def test_a_flipped_bit_is_noticed_or_harmless(trained_runs, tmp_path):
    run = trained_runs(*TWO_MEMBERS)
    whole = vaex.load(run)
    expected, described = np.asarray(whole[1].reconstruct(X)), identity(whole.settings)
    noticed, harmless = [], []
    files = [path.relative_to(run) for path in sorted(run.rglob("*")) if path.is_file() and path.name not in NOT_READ]
    arrays = [path for path in files if path.parts[:2] == ("checkpoints", "20")]  # the newest is read
    files = [path for path in files if path.parts[0] != "checkpoints" or path.name == "digests.json"] + arrays[::2]
    assert len(files) > 7
    for path in files:
        if not (run / path).stat().st_size:
            continue
        copy = tmp_path / "copy"
        shutil.copytree(run, copy)
        flipped(copy / path, seed=2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                loaded = vaex.load(copy)
            except UserError as error:
                assert "\n" not in str(error)
                noticed.append(path)
            else:
                if caught:
                    noticed.append(path)
                else:
                    harmless.append(path)
                    assert loaded.step == 20, path
                    np.testing.assert_array_equal(loaded[1].reconstruct(X), expected, err_msg=str(path))
                    assert identity(loaded.settings) == described, path
        shutil.rmtree(copy)
    assert pathlib.Path("config.json") in noticed and len(noticed) >= 2
