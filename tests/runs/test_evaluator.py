"""Evaluation reads its split batch by batch, whatever its size, and gives the numbers of a split held in memory."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vaex import data
from vaex.cli import main as cli
from vaex.core import Outcome
from vaex.evaluation.examples import divided_examples, random_order
from vaex.evaluation.objective import ObjectiveValues, objective_values
from vaex.runs import by_batch, measures
from vaex.runs import evaluate as evaluator

ALLOWED = 400 << 20  # bytes beyond what a small run of the same model takes; threads and figures come and go

# What is private and writable counts: allocations, not read-only maps of files. The small run starts the threads and loads the
# libraries, whose memory depends on the machine.
CHILD = """
import pathlib, re, resource, sys
from vaex.cli import main as cli
from vaex.data.storage import host_memory
from vaex.runs import measures
from vaex.training import loop

small, large, folder = sys.argv[1:]
host_memory.free_memory = lambda: 1e8
loop.MOST_STEPS = 8  # windows of 2 MB
measures.NEIGHBOUR_VALUES = 2**20
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


@pytest.mark.parametrize(("n", "batch", "count"), [(23, 5, None), (23, 50, None), (23, 5, 7), (20, 5, 20), (3, 2, 3)])
def test_batches_join_to_what_all_at_once_gives(n, batch, count):
    """Each example has a key of its number, whatever the batch, the order and the padding."""
    columns = {"x": np.arange(2.0 * n, dtype=np.float32).reshape(n, 2), "y": np.arange(n)}
    rows = None if count is None else np.random.default_rng(0).permutation(n)[:count]
    key, sizes = jax.random.key(0), []

    def function(keys, factor, part):
        sizes.append(len(part["x"]))
        assert part.keys() == {"x", "y"}
        return {"twice": factor * part["x"], "label": part["y"], "drawn": jax.vmap(jax.random.normal)(keys)}

    joined = by_batch.over_batches(function, key, columns, 2.0, size=batch, rows=rows)
    expected = np.arange(n) if rows is None else rows
    assert np.array_equal(joined["twice"], 2 * columns["x"][expected]) and np.array_equal(joined["label"], expected)
    drawn = [jax.random.normal(jax.random.fold_in(key, i)) for i in expected]
    assert np.array_equal(joined["drawn"], np.array(drawn))
    assert set(sizes) == {min(batch, len(expected))}


@pytest.mark.parametrize(("n", "size"), [(1, 4), (7, 4), (8, 4), (11, 4)])
def test_a_division_has_no_padding_and_keeps_every_example_in_its_place(n, size):
    columns = {"x": np.arange(float(n))}
    division = divided_examples(random_order(n), size)
    keys = []

    def function(key, batch):
        keys.append(jax.random.key_data(key).tolist())
        return ObjectiveValues({"twice": 2 * batch["x"]}, {"sum": np.sum(batch["x"]), "count": len(batch["x"])})

    values = by_batch.over_divisions(function, jax.random.key(0), columns, division)
    assert np.array_equal(values.examples["twice"], 2 * columns["x"])
    assert values.statistics["sum"].sum() == columns["x"].sum()
    assert values.statistics["count"].tolist() == values.sizes.tolist() == [len(rows) for rows in division]
    assert values.sizes.sum() == n and len({tuple(key) for key in keys}) == len(division)


def test_metrics_are_separated_by_shape():
    def objective(key, variables, hparams, batch, *, train):
        assert not train
        return Outcome({}, (), {"own": batch["x"] * variables, "mean": jnp.mean(batch["x"]), "many": hparams})

    values = objective_values(objective)
    batch = {"x": jnp.arange(4.0)}
    with pytest.raises(ValueError, match=r"the metric many has shape \(4, 1\), expected \[\] or \[4\]; reduce it"):
        values(jax.random.key(0), 2.0, jnp.zeros((4, 1)), batch)
    separated = values(jax.random.key(0), 2.0, jnp.zeros(()), batch)
    assert separated.examples.keys() == {"own"} and separated.statistics.keys() == {"mean", "many"}
    single = values(jax.random.key(0), 2.0, jnp.zeros(()), {"x": jnp.ones(1)})
    assert single.examples["own"].shape == (1,) and single.statistics["mean"].shape == ()


def run_with(tmp_path, monkeypatch, name, **limits):
    for limit, value in limits.items():
        module = measures if limit.startswith("NEIGHBOUR") else by_batch
        monkeypatch.setattr(module, limit, value)
    flags = ["--model=vae", "--steps=5", "--hidden=8", "--eval_samples=2", "--eval_images=30", "--no-figures"]
    assert cli.main([*flags, f"--out={tmp_path / name}"]) == 0
    return json.loads((tmp_path / name / "summary.json").read_text())["members"][0]


@pytest.mark.slow
def test_large_images_come_in_smaller_batches_and_fewer_neighbours(tmp_path, monkeypatch, capsys):
    """Fourteen digits of 64 values at most: of the objective with other draws, and so other numbers of the same quantities."""
    uncut = run_with(tmp_path, monkeypatch, "whole")
    padded, divided, judged = [], [], []
    in_batches, divide, classify = (
        data.padded_batches,
        evaluator.divided_examples,
        measures.generation.knn_label_agreement,
    )

    def spy(columns, size, rows):
        padded.append(size)
        return in_batches(columns, size, rows)

    def spy_on_division(rows, size):
        divided.extend(map(len, divide(rows, size)))
        return divide(rows, size)

    def note(train_x, train_y, rebuilt, y, **others):
        judged.append([len(train_x), len(train_y), len(rebuilt), len(y), len(others["originals"])])
        return classify(train_x, train_y, rebuilt, y, **others)

    monkeypatch.setattr(data, "padded_batches", spy)
    monkeypatch.setattr(evaluator, "divided_examples", spy_on_division)
    monkeypatch.setattr(measures.generation, "knn_label_agreement", note)
    cut = run_with(tmp_path, monkeypatch, "cut", BATCH_VALUES=2 * 7 * 64 + 5, NEIGHBOUR_VALUES=40 * 64 + 5)
    assert set(padded) == {7} and set(divided) == {7, 8} and judged == [[40] * 5]
    assert cut.keys() == uncut.keys() and cut["kl_per_latent"] == pytest.approx(uncut["kl_per_latent"], abs=1e-5)
    assert cut["log_likelihood"] == pytest.approx(uncut["log_likelihood"], rel=1e-5)
    assert cut["elbo"] == pytest.approx(uncut["elbo"], abs=3 * uncut["elbo_standard_error"])
    single = run_with(tmp_path, monkeypatch, "one", BATCH_VALUES=1)
    assert set(padded) == {7, 1} and single["kl_per_latent"] == pytest.approx(cut["kl_per_latent"], abs=1e-5)


@pytest.mark.slow
def test_a_sorted_split_has_the_numbers_of_a_shuffled_one(tmp_path):
    """Statistics of batches, and what is of a part of the split: batches and parts are chosen at random."""
    rng = np.random.default_rng(0)
    y = np.sort(rng.integers(0, 10, 1200)).astype(np.int32)
    x = rng.integers(0, 256, (1200, 6, 6), np.uint8) // 4 + (y * 19).astype(np.uint8)[:, None, None]
    summaries = {}
    for name, order in (("sorted", np.arange(1200)), ("shuffled", rng.permutation(1200))):
        path = tmp_path / f"{name}.npz"
        np.savez(path, x_train=x, y_train=y, x_test=x[order], y_test=y[order])
        flags = [
            "--model=dip_vae",
            "--steps=30",
            "--hidden=8",
            "--latent_dim=2",
            "--eval_samples=2",
            "--eval_images=100",
        ]
        flags += ["--likelihood=gaussian", "--no-figures"]
        assert cli.main([*flags, f"--dataset={path}", f"--out={tmp_path / name}"]) == 0
        summaries[name] = json.loads((tmp_path / name / "summary.json").read_text())
    assert summaries["sorted"]["batch_statistics"] == {
        "names": ["squared_covariances", "squared_variance_errors"], "batches": 2, "examples": [600, 600],
    }  # fmt: skip
    ordered, shuffled = (summary["members"][0] for summary in summaries.values())
    assert ordered["kl"] == pytest.approx(shuffled["kl"], rel=1e-5)
    for name in ("squared_covariances", "squared_variance_errors"):
        error = sum(member[f"{name}_standard_error_over_batches"] for member in (ordered, shuffled))
        assert abs(ordered[name] - shuffled[name]) < 5 * error + 0.02 * abs(ordered[name])
    for name in ("log_likelihood", "elbo_same_examples"):
        error = np.hypot(ordered[f"{name}_standard_error"], shuffled[f"{name}_standard_error"])
        assert abs(ordered[name] - shuffled[name]) < 4 * error
