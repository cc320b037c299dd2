"""Evaluation reads its split batch by batch, whatever its size, and gives the numbers of a split held in memory."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from vaex import data
from vaex.cli import main as cli
from vaex.runs import evaluate as evaluator

ALLOWED = 400 << 20  # bytes beyond what a small run of the same model takes; threads and pictures come and go

# What is private and writable counts: allocations, not read-only maps of files. The small run starts the threads and loads the
# libraries, whose memory depends on the machine.
CHILD = """
import pathlib, re, resource, sys
from vaex.cli import main as cli
from vaex.data.storage import host_memory
from vaex.runs import evaluate as evaluator
from vaex.training import loop

small, large, folder = sys.argv[1:]
host_memory.free_memory = lambda: 1e8
loop.MOST_STEPS = 8  # windows of 2 MB
evaluator.NEIGHBOUR_VALUES = 2**20
flags = ["--model=vae", "--steps=5", "--hidden=8", "--latent_dim=1", "--batch_size=64", "--eval_samples=2", "--eval_images=600"]
assert cli.main([*flags, f"--dataset={small}", f"--data_dir={folder}", f"--out={folder}/small"]) == 0
used = int(re.search(r"VmData:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + ALLOWED, -1))
assert cli.main([*flags, f"--dataset={large}", f"--data_dir={folder}", f"--out={folder}/large"]) == 0
""".replace("ALLOWED", str(ALLOWED))


def write(path, train, test):
    """Binary images 64x64 with labels: 4 kB each as stored, 16 kB each as floats."""
    content = {}
    for split, n in (("train", train), ("test", test)):
        values = (np.arange(n) % 2).astype(np.uint8)
        content[f"x_{split}"] = np.broadcast_to(values[:, None, None], (n, 64, 64))
        content[f"y_{split}"] = np.arange(n) % 10
    np.savez(path, **content)
    return str(path)


@pytest.mark.slow
def test_a_split_larger_than_the_memory_is_evaluated_and_drawn(tmp_path):
    """Its 156 MB would take 620 as floats."""
    if not pathlib.Path("/proc/self/status").exists():
        pytest.skip("this platform does not tell or limit how much memory a process has")
    small, large = write(tmp_path / "small.npz", 600, 600), write(tmp_path / "large.npz", 2_000, 38_000)
    environment = os.environ | {"XLA_FLAGS": "", "VAEX_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, small, large, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "large" / "summary.json").read_text())
    assert summary["evaluation"]["examples"] == 38_000 and summary["evaluation"]["log_likelihood_examples"] == 600
    assert summary["members"][0]["knn_accuracy_on_originals"] is not None


# --- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "batch", "count"), [(23, 5, None), (23, 50, None), (23, 5, 7), (20, 5, 20), (3, 2, 90)])
def test_batches_join_to_what_all_at_once_gives(n, batch, count):
    columns = {"x": np.arange(2.0 * n, dtype=np.float32).reshape(n, 2), "y": np.arange(n)}
    seen, counted = [], []

    def function(keys, factor, part):
        seen.append((len(part["x"]), [jax.random.key_data(key).tolist() for key in keys]))
        counted.append(part["mask"])
        return {"twice": factor * part["x"], "label": part["y"]}

    keys = jax.random.split(jax.random.key(0))
    found = evaluator.over_batches(function, tuple(keys), columns, 2.0, size=batch, count=count)
    wanted = min(n, count or n)
    assert np.array_equal(found["twice"], 2 * columns["x"][:wanted]) and np.array_equal(
        found["label"], np.arange(wanted)
    )
    assert {rows for rows, _ in seen} == {min(batch, wanted)}
    assert np.concatenate(counted).tolist() == [1.0] * wanted + [0.0] * (len(seen) * min(batch, wanted) - wanted)
    expected = [[jax.random.key_data(jax.random.fold_in(key, i)).tolist() for key in keys] for i in range(len(seen))]
    assert [drawn for _, drawn in seen] == expected


def run_with(tmp_path, monkeypatch, name, **limits):
    for limit, value in limits.items():
        monkeypatch.setattr(evaluator, limit, value)
    flags = ["--model=vae", "--steps=5", "--hidden=8", "--eval_samples=2", "--eval_images=30", "--no-figures"]
    assert cli.main([*flags, f"--out={tmp_path / name}"]) == 0
    return json.loads((tmp_path / name / "summary.json").read_text())["members"][0]


@pytest.mark.slow
def test_large_images_come_in_smaller_batches_and_fewer_neighbours(tmp_path, monkeypatch, capsys):
    """Seven digits of 64 values each: with other draws, and so other numbers, but of the same quantities."""
    whole = run_with(tmp_path, monkeypatch, "whole")
    sizes, judged = [], []
    batches, classify = data.padded_batches, evaluator.generation.knn_label_agreement

    def spy(columns, size, count):
        sizes.append(size)
        return batches(columns, size, count)

    def note(train_x, train_y, rebuilt, y, **others):
        judged.append([len(train_x), len(train_y), len(rebuilt), len(y), len(others["originals"])])
        return classify(train_x, train_y, rebuilt, y, **others)

    monkeypatch.setattr(data, "padded_batches", spy)
    monkeypatch.setattr(evaluator.generation, "knn_label_agreement", note)
    cut = run_with(tmp_path, monkeypatch, "cut", BATCH_VALUES=7 * 64 + 5, NEIGHBOUR_VALUES=40 * 64 + 5)
    assert set(sizes) == {7} and judged == [[40] * 5]
    assert cut.keys() == whole.keys() and cut["kl_per_latent"] == pytest.approx(whole["kl_per_latent"], abs=1e-5)
    assert cut["elbo"] == pytest.approx(whole["elbo"], abs=3 * whole["elbo_standard_error"])
    one = run_with(tmp_path, monkeypatch, "one", BATCH_VALUES=1)
    assert set(sizes) == {7, 1} and one["kl_per_latent"] == cut["kl_per_latent"]
