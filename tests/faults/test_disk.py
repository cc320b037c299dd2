"""Disks that are full or changing while a run reads and writes."""

import io
import shutil
import subprocess
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ROOT
from helpers.trained_runs import vaex as command

from vaex import data
from vaex.errors import UserError
from vaex.training.checkpoint import Checkpoints

FLAGS = ("--model=vae", "--no-figures")


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 4096])
def test_a_disk_that_is_full_at_the_first_save(tmp_path, size):
    """In a process of its own, whose every line is seen: the system refuses writes beyond so many bytes of a file."""
    pytest.importorskip("resource", reason="this platform has no limits on the size of files")
    limit = f"import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    code = f"{limit}; from vaex.cli.main import main; raise SystemExit(main())"
    flags = [*FLAGS, "--steps=20", "--hidden=8", "--latent_dim=2", "--compile_cache=off", f"--out={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, "-c", code, *flags], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "closed" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1] and "run the same command again" in done.stderr


def test_a_checkpoint_that_cannot_be_written_is_a_line(tmp_path, full_disk):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"w": jnp.arange(3.0)})
    with (
        full_disk(2000),
        pytest.raises(UserError, match=r"step 2 cannot be written \(File too large\); step 1 is kept\. Check the disk"),
    ):
        checkpoints.save(2, {"w": jnp.asarray(np.random.default_rng(0).normal(size=3000))})
    checkpoints.close()
    again = Checkpoints(tmp_path / "checkpoints")
    assert again.latest() == 1
    again.close()


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["_damage", "_restore", "_read_here"])
def test_a_checkpoint_is_read_beside_a_run_that_saves_often(tmp_path, monkeypatch, reads):
    """What is about to be read is removed by the run, which has newer ones by then."""
    writer = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2):
        writer.save(step, {"w": jnp.full(3, step)})
    reader, overtaken = Checkpoints(tmp_path / "checkpoints"), []
    read = getattr(Checkpoints, reads)

    def slowly(self, *arguments):
        if self is reader and len(overtaken) < 3:
            overtaken.append(True)
            newest = writer.latest() or 0
            writer.save(newest + 1, {"w": jnp.full(3, newest + 1)})
            writer.save(newest + 2, {"w": jnp.full(3, newest + 2)})
        return read(self, *arguments)

    monkeypatch.setattr(Checkpoints, reads, slowly)
    assert reader.restore({"w": jnp.zeros(3, jnp.int32)})["w"].tolist() == [8, 8, 8]
    assert len(overtaken) == 3 and reader.damaged == ()
    reader.close()
    writer.close()


@pytest.mark.parametrize("where", ["loop", "loop/run"])
def test_a_link_that_leads_back_to_itself(tmp_path, where):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    ended = command(tmp_path / where, *FLAGS)
    assert ended.code == 2
    assert "is a link that leads back to itself; choose another directory" in ended.err


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_claims_more_than_the_file_holds(tmp_path, compressed):
    header = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (10**12, 10, 10, 10)}
    np.lib.format.write_array_header_1_0(header, description)
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(tmp_path / "huge.npz", "w", kind) as file:
        file.writestr("x.npy", header.getvalue() + bytes(100))
    with pytest.raises(UserError, match=r"huge\.npz: x claims to have shape .*10, 10, 10.*write or copy it again"):
        data.load(str(tmp_path / "huge.npz"))


@pytest.mark.slow
def test_a_moved_run_goes_on(tmp_path, trained_runs):
    moved = trained_runs.copied(tmp_path / "elsewhere", *FLAGS)
    shutil.move(moved, tmp_path / "again")
    ended = command(tmp_path / "again", *FLAGS, "--steps=22")
    assert ended.code == 0 and "continuing" in ended.out
