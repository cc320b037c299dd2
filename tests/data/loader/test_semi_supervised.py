"""Few labels: balanced, chosen by the data seed, and in every batch."""

import json

import numpy as np
import pytest

from vaex import data
from vaex.cli import main as cli
from vaex.data.loader.semi_supervised import choose_labelled, hide_labels, labelled_order
from vaex.errors import UserError

Y = np.random.default_rng(0).integers(0, 5, 200).astype(np.int32)


def test_labels_are_balanced_and_follow_the_data_seed():
    kept = choose_labelled(Y, 20, 5, data_seed=1)
    assert np.bincount(Y[kept]).tolist() == [4] * 5 and len(set(kept.tolist())) == 20
    np.testing.assert_array_equal(kept, choose_labelled(Y, 20, 5, data_seed=1))
    assert set(kept.tolist()) != set(choose_labelled(Y, 20, 5, data_seed=2).tolist())


def test_other_labels_are_hidden_and_the_originals_kept():
    kept = choose_labelled(Y, 20, 5, data_seed=1)
    hidden = hide_labels({"x": Y, "y": Y}, kept)["y"]
    assert np.sum(hidden >= 0) == 20 and np.array_equal(hidden[kept], Y[kept])
    assert np.all(Y >= 0)


def test_each_batch_begins_with_labelled_examples_in_epochs_of_their_own():
    kept = choose_labelled(Y, 20, 5, data_seed=1)
    indices = labelled_order(kept, len(Y), 16, 5, data_seed=1)
    rows = indices(0, 40)
    assert rows.shape == (40, 16) and rows.dtype == np.int32
    for epoch in range(10):  # four batches of five pass the pool of twenty
        assert sorted(rows[4 * epoch : 4 * epoch + 4, :5].ravel().tolist()) == sorted(kept.tolist())
    assert sorted(rows[:, 5:].ravel()[:200].tolist()) == list(range(200))  # and all examples in theirs
    np.testing.assert_array_equal(indices(17, 5), rows[17:22])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: choose_labelled(Y, 12, 5, 0), "--labels=12: expected a multiple of the 5 classes, such as 10"),
        (lambda: choose_labelled(Y, 500, 5, 0), "--labels=500: class 0 has .* 100 are needed"),
        (lambda: choose_labelled(Y, 10, 0, 0), "--labels=10: this data has no labels"),
        (lambda: labelled_order(np.arange(20), 200, 16, 16, 0), "expected 1 to 15"),
        (lambda: labelled_order(np.arange(4), 200, 16, 8, 0), "there are only 4 labelled examples"),
    ],
)
def test_invalid_input_is_refused(call, match):
    with pytest.raises(UserError, match=match):
        call()


def test_both_feeds_take_the_order():
    kept = choose_labelled(Y, 20, 5, data_seed=1)
    arrays = hide_labels({"x": np.arange(200), "y": Y}, kept)
    order = labelled_order(kept, 200, 16, 5, data_seed=1)
    resident, streamed = (data.feed_for(where, arrays, 16, 1, order=order) for where in ("device", "host"))
    for step in range(3):
        a = resident.batch(resident.resident, resident.plan(step, 1)[0])
        b = {name: values[0] for name, values in streamed.plan(step, 1).items()}
        assert np.all(np.asarray(a["y"])[:5] >= 0)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.slow
def test_the_flags_reach_the_run_and_its_identity(tmp_path, capsys):
    flags = ["--model=vae", "--steps=3", "--hidden=8", "--no-figures", "--eval_samples=2", f"--out={tmp_path / 'run'}"]
    assert cli.main([*flags, "--labels=20", "--labelled_per_batch=8"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["identity"]["labels"] == 20
    assert cli.main([*flags, "--labels=30", "--labelled_per_batch=8"]) == 2
    assert "labels: 20 -> 30" in capsys.readouterr().err
    assert cli.main(["--model=vae", "--labelled_per_batch=8", f"--out={tmp_path / 'other'}"]) == 2
    assert "needs --labels" in capsys.readouterr().err
