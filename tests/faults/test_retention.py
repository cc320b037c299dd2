"""How many checkpoints stay, and reading one that is not the newest."""

import numpy as np
import pytest
from helpers.trained_runs import vaex as command

import vaex
from vaex.errors import UserError

FLAGS = ("--model=vae", "--no-figures", "--steps=20", "--checkpoint_every=4")


@pytest.mark.slow
def test_the_last_checkpoints_stay_and_are_read_by_their_step(tmp_path):
    assert command(tmp_path / "run", *FLAGS, "--keep=4").code == 0
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == [8, 12, 16, 20]
    assert command(tmp_path / "short", *FLAGS[:2], "--steps=12", "--checkpoint_every=4").code == 0
    before, expected = vaex.load(tmp_path / "run", step=12), vaex.load(tmp_path / "short")
    assert before.step == 12 and before.summary is None
    x = np.zeros((1, 8, 8, 1))
    np.testing.assert_array_equal(before.encode(x).mean, expected.encode(x).mean)
    with pytest.raises(UserError, match="holds no checkpoint of step 4; there are: 8, 12, 16, 20"):
        vaex.load(tmp_path / "run", step=4)
    for path in (tmp_path / "run" / "checkpoints" / "16" / "packed").rglob("0"):
        path.write_bytes(path.read_bytes()[:-5] + b"12345")
    with pytest.raises(UserError, match=r"16 .*; load another step"):
        vaex.load(tmp_path / "run", step=16)
    assert command(tmp_path / "run", *FLAGS[:2], "--steps=21", "--keep=2").code == 0  # may change as the run goes on


@pytest.mark.slow
def test_a_number_beside_the_best(tmp_path):
    flags = (*FLAGS, "--validate_every=4", "--keep=best:elbo+3")
    assert command(tmp_path / "run", *flags).code == 0
    assert len([path for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdigit()]) == 3
    assert vaex.load(tmp_path / "run").step in (4, 8, 12, 16, 20)


@pytest.mark.parametrize("keep", ["1", "0", "best", "best:", "elbo", "best:elbo+", "best:elbo+1", "-3", "2.5"])
def test_what_is_not_kept(tmp_path, keep):
    ended = command(tmp_path / "run", *FLAGS, "--validate_every=4", f"--keep={keep}")
    assert ended.code == 2 and f"--keep={keep}: expected" in ended.err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_in_memory_there_is_one_state():
    with pytest.raises(UserError, match="--keep=5: a run in memory holds its last state alone; give out="):
        vaex.train("vae", np.eye(16).reshape(16, 4, 4), steps=2, keep="5", hidden=(4,), latent_dim=2, progress=False)
