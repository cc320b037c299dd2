"""Balanced batches: every class equally often, a pure function of the step, trained, resumed and measured by class."""

import json

import numpy as np
import pytest

import vaex
from vaex.data.loader.balanced import balanced_order
from vaex.errors import UserError
from vaex.results import report

Y = np.array([0] * 80 + [1] * 15 + [4] * 5)


@pytest.mark.parametrize("batch_size", [3, 10, 16])
def test_classes_take_turns_and_examples_come_once_in_an_epoch_of_their_class(batch_size):
    order = balanced_order(Y, batch_size, data_seed=3)
    rows = order(0, 120)
    counts = np.stack([(Y[rows] == label).sum(1) for label in (0, 1, 4)])
    assert counts.min() >= batch_size // 3 and counts.max() <= -(-batch_size // 3)
    assert rows.dtype == np.int32 and not np.array_equal(rows, balanced_order(Y, batch_size, data_seed=4)(0, 120))
    for label, size in ((0, 80), (1, 15), (4, 5)):
        drawn = rows.ravel()[Y[rows.ravel()] == label]
        whole = len(drawn) // size * size
        assert whole and all(len(set(epoch)) == size for epoch in drawn[:whole].reshape(-1, size))
    for first in (1, 7, 31):  # from any step
        np.testing.assert_array_equal(order(first, 4), rows[first : first + 4])


def test_every_example_needs_a_label():
    with pytest.raises(UserError, match="1 of the 3 training examples have none; leave the flag out"):
        balanced_order(np.array([0, -1, 1]), 2, data_seed=0)
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(UserError, match="--balance needs a label of every example, and there are none"):
        vaex.train("vae", x, steps=1, balance=True, hidden=(4,), progress=False)
    with pytest.raises(UserError, match="--balance needs all labels, and --labels=2 hides most of them"):
        vaex.train("vae", (x, np.arange(40) % 2), steps=1, balance=True, labels=2, hidden=(4,), progress=False)


@pytest.mark.slow
def test_a_rare_class_is_learned_and_told(tmp_path, capsys):
    """A class of one in fifty: its bound rises where batches are balanced; a run in two parts gives the bits of one."""
    rng = np.random.default_rng(0)
    y = (np.arange(2000) % 50 == 0).astype(int)
    x = np.where(y[:, None] == 1, 3.0 + 0.1 * rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4)))
    options = {"hidden": (16,), "latent_dim": 2, "batch_size": 50, "learning_rate": 0.003, "progress": False}
    runs = {}
    for balance in (False, True):
        out = tmp_path / f"{balance}"
        runs[balance] = vaex.train("vae", (x, y), steps=300, balance=balance, evaluate=True, out=out, **options)
    summaries = {balance: json.loads((run.directory / "summary.json").read_text()) for balance, run in runs.items()}
    of_class = {balance: summary["members"][0]["by_class"] for balance, summary in summaries.items()}
    assert [record["class"] for record in of_class[True]] == ["0", "1"]
    assert sum(record["examples"] for record in of_class[True]) == 200
    mean = sum(record["examples"] * record["elbo"] for record in of_class[True]) / 200
    np.testing.assert_allclose(mean, summaries[True]["members"][0]["elbo"], rtol=1e-5)
    assert of_class[True][1]["elbo"] > of_class[False][1]["elbo"] + 0.5
    report.show(None, summaries[True])
    assert "seed  class  examples" in capsys.readouterr().out
    parts = vaex.train("vae", (x, y), steps=100, balance=True, out=tmp_path / "parts", **options)
    parts = vaex.train("vae", (x, y), steps=300, balance=True, out=tmp_path / "parts", **options)
    for one, other in zip(parts.rows(), runs[True].rows(), strict=True):
        assert one["elbo"] == other["elbo"]
