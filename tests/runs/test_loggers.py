"""Rows of metrics in TensorBoard's event files and in offline runs of Weights & Biases."""

import pathlib
import struct

import jax
import numpy as np
import pytest

import vaex
from vaex.errors import UserError
from vaex.training import loggers

X = np.random.default_rng(0).integers(0, 17, (60, 8, 8), np.uint8)
QUICK = {"hidden": (8,), "latent_dim": 2, "log_every": 5, "devices": 1, "progress": False, "steps": 10}


def scalars(folder: pathlib.Path) -> dict[tuple[str, int], float]:
    """(tag, step) -> value of the event files in a folder, read record by record."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    values = {}
    for path in folder.glob("events.*"):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            values |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return values


@pytest.mark.slow
@pytest.mark.parametrize("option", [True, False])
def test_tensorboard_has_every_number_of_every_member(tmp_path, option):
    pytest.importorskip("tensorboardX")
    if option:
        run = vaex.train("beta_vae", X, beta=[1, 4], out=tmp_path / "run", log_to="tensorboard", **QUICK)
        folder = tmp_path / "run" / "tensorboard"
    else:
        names = ("beta=1_seed=0", "beta=4_seed=0")
        run = vaex.train("beta_vae", X, beta=[1, 4], callbacks=[loggers.tensorboard(tmp_path, names)], **QUICK)
        folder = tmp_path
    for index, name in enumerate(run.names):
        expected = {(f"model/{m}", r["step"]): r[m][index] for r in run.rows() for m in r if m != "step"}
        assert scalars(folder / name) == pytest.approx(expected, rel=1e-6)
    if option:
        rows, again = run.rows(), vaex.train("beta_vae", X, beta=[1, 4], out=tmp_path / "run", overwrite=True, **QUICK)
        assert again.step == 10 and not folder.exists()
        jax.tree.map(np.testing.assert_array_equal, run.state.variables, again.state.variables)  # logged or not
        assert rows == again.rows()


@pytest.mark.slow
def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logged = []
    init = wandb.init

    def recorded(**arguments):
        session = init(**arguments)
        log = session.log
        session.log = lambda values: (logged.append(values), log(values))
        return session

    monkeypatch.setattr(wandb, "init", recorded)
    callback = loggers.wandb(mode="offline", dir=str(tmp_path), project="test")
    run = vaex.train("vae", X, callbacks=[callback], **QUICK)
    assert [values["step"] for values in logged] == [5, 10]
    assert logged[-1]["model/elbo"] == pytest.approx(run.rows()[-1]["elbo"][0])
    assert list(tmp_path.rglob("*.wandb"))


def test_a_logger_that_cannot_be_had(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="log_to=tensorbord"):
        vaex.train("vae", X, out=tmp_path / "run", log_to="tensorbord", **QUICK)
    with pytest.raises(UserError, match="give out="):
        vaex.train("vae", X, log_to="tensorboard", **QUICK)
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"vaex-jax\[loggers\]"):
        loggers.tensorboard(tmp_path)
