"""Streamed batches are the resident ones, and train the same model to the bit."""

import json

import jax
import numpy as np
import pytest

from vaex import data
from vaex.cli import main as cli
from vaex.data.loader import streaming
from vaex.data.storage import host_memory
from vaex.errors import UserError
from vaex.training import loop
from vaex.training.hyperparameters import as_schedules
from vaex.training.step import with_inputs


def example_arrays(n=50):
    x = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 1), np.uint8)
    return {"x": x, "y": np.arange(n, dtype=np.int32)}


@pytest.mark.optimised
def test_plans_hold_the_batches_of_the_resident_feed(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "PIECE", 1000)  # several pieces, gathered by several threads
    arrays = example_arrays()
    np.save(tmp_path / "x.npy", arrays["x"])
    mapped = {"x": np.load(tmp_path / "x.npy", mmap_mode="r"), "y": arrays["y"]}
    resident, streamed = (
        make(values, 8, 3) for make, values in ((data.resident_feed, arrays), (data.streamed_feed, mapped))
    )
    assert streamed.resident == {}
    plan = streamed.plan(5, 20)
    assert plan["x"].shape == (20, 8, 8, 8, 1) and plan["x"].dtype == np.uint8 and type(plan["x"]) is np.ndarray
    for step, row in enumerate(resident.plan(5, 20)):
        expected = resident.batch(resident.resident, row)
        found = streamed.batch(streamed.resident, jax.tree.map(lambda leaf, step=step: leaf[step], plan))
        assert set(found) == set(expected)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.slow
@pytest.mark.optimised
def test_a_streamed_run_equals_a_resident_one_to_the_bit(tmp_path, monkeypatch, capsys):
    written = {}
    for memory in ("device", "host"):
        with monkeypatch.context() as patch:
            if memory == "host":
                patch.setattr(loop, "MOST_STEPS", 17)  # windows that chunks must not outlive
            flags = ["--model=vae", "--steps=60", "--hidden=16", "--log_every=7", "--no-figures", "--eval_samples=2"]
            assert cli.main([*flags, f"--memory={memory}", f"--out={tmp_path / memory}"]) == 0
        capsys.readouterr()
        written[memory] = (tmp_path / memory / "metrics.jsonl").read_bytes()
    assert written["device"] == written["host"]
    a, b = (json.loads((tmp_path / memory / "summary.json").read_text())["results"] for memory in ("device", "host"))
    assert a == b


@pytest.mark.slow
def test_memory_is_not_part_of_a_runs_identity(tmp_path, capsys):
    flags = ["--model=vae", "--hidden=8", "--no-figures", "--eval_samples=2", f"--out={tmp_path / 'run'}"]
    assert cli.main([*flags, "--steps=5", "--memory=host"]) == 0
    assert cli.main([*flags, "--steps=8", "--memory=device"]) == 0
    assert "continuing" in capsys.readouterr().out


def test_memory_is_chosen_by_what_is_free(monkeypatch):
    monkeypatch.setattr(host_memory, "free_memory", lambda: 1000.0)
    for copies in (1, 4):  # virtual CPU devices hold a copy each, in one memory
        monkeypatch.setattr(streaming.jax, "local_device_count", lambda copies=copies: copies)
        sizes = (399 // copies, 401 // copies + 1)
        assert [streaming.choose_memory("auto", size) for size in sizes] == ["device", "host"]
    assert streaming.choose_memory("device", 10**12) == "device"
    with pytest.raises(ValueError, match="memory is 'disk', expected one of auto, device, host"):
        streaming.choose_memory("disk", 1)


def test_invalid_input_is_refused_as_by_the_resident_feed():
    with pytest.raises(UserError, match="--batch_size=51 is larger than the training data of 50 examples"):
        data.streamed_feed(example_arrays(), 51)
    with pytest.raises(ValueError, match="streamed_feed: arrays have lengths"):
        data.streamed_feed({"x": np.zeros(3), "y": np.zeros(2)}, 1)


@pytest.mark.slow
def test_a_failure_while_reading_ahead_reaches_the_caller():
    """Not a hang, and not a silent end."""
    from vaex.models.autoencoders import vae
    from vaex.training import population

    arrays = example_arrays()
    dataset = data.load("digits")
    recipe = vae.build(vae.Config(hidden=(8,), latent_dim=2), dataset.spec)
    stepper = with_inputs(recipe.stages[0].algorithm, lambda key, x: data.prepare(dataset.spec, key, x))
    source = data.streamed_feed({"x": arrays["x"] % 17}, 8)

    def plan(first, count):
        if first > 0:
            raise OSError("the disk is gone")
        return source.plan(first, min(count, 8))

    feed = source._replace(plan=plan)
    hparams = population.stack([as_schedules(vae.HParams())])
    state = population.init(stepper, [0], hparams, {"x": arrays["x"][:8] % 17})
    program, carry = loop.compile_program(stepper, feed, state, log_every=10, strategy="solo")
    program = program._replace(window=lambda first, stop: program_window(first, stop))
    made = loop.compile_program(stepper, feed, state, log_every=10, strategy="solo")[0].window

    def program_window(first, stop):
        return made(first, min(stop, first + 8))

    with pytest.raises(OSError, match="the disk is gone"):
        loop.fit(program, carry, 0, 40)
