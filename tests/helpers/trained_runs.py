"""Trained runs that tests only look at: each is trained once, by whichever test and process asks first."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pathlib
import shutil
from typing import NamedTuple

from vaex import files
from vaex.cli import main as cli

QUICK = {
    "hidden": "8", "latent_dim": "2", "steps": "20", "log_every": "5", "eval_samples": "4", "eval_images": "20", "devices": "1",
}  # fmt: skip
TWO_MEMBERS = ("--model=beta_vae", "--beta=1,4", "--average_decay=0.9", "--no-figures")


class Ended(NamedTuple):
    """A command that ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


def vaex(directory: pathlib.Path, *flags: str) -> Ended:
    """The command line with these flags, and those of ``QUICK`` for options that they leave out."""
    present = {flag[2:].split("=")[0] for flag in flags}
    quick = [f"--{name}={value}" for name, value in QUICK.items() if name not in present]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([f"--out={directory}", *quick, *flags])
    return Ended(code, out.getvalue(), err.getvalue())


class TrainedRuns:
    """Runs of one session of pytest, in a folder that its processes share."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def __call__(self, *flags: str) -> pathlib.Path:
        """Return the directory of a run with these flags and ``QUICK``, trained and evaluated; it must not be changed."""
        place = self.folder / hashlib.sha256(repr(flags).encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        with files.held(place, wait=True):
            if not (place / "run" / "summary.json").exists():
                ended = vaex(place / "run", *flags)
                assert ended.code == 0, ended.err
        return place / "run"

    def copied(self, to: pathlib.Path, *flags: str) -> pathlib.Path:
        """Copy such a run, for a test that changes it."""
        return pathlib.Path(shutil.copytree(self(*flags), to))
