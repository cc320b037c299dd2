"""Figure records: every image, bar and value in its place; all of them can be drawn."""

import json
import math

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vaex.evaluation.figures import (
    kl_bars,
    manifold_grid,
    reconstruction_grid,
    sample_grid,
    traversal_grid,
)
from vaex.evaluation.training_curves import training_curves
from vaex.plots import save


def numbered(n):
    """Images [n, 2, 2, 1] that are constant, each with its own value."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None] / 100.0, (n, 2, 2, 1))


def test_reconstructions_stand_under_their_originals():
    originals, reconstructions = numbered(13), numbered(13) + 0.5
    grid = reconstruction_grid(originals, reconstructions, columns=5)
    assert grid.images.shape == (6, 5, 2, 2, 1) and grid.row_labels == ("original", "reconstruction") * 3
    for index in range(13):
        np.testing.assert_array_equal(grid.images[2 * (index // 5), index % 5], originals[index])
        np.testing.assert_array_equal(grid.images[2 * (index // 5) + 1, index % 5], reconstructions[index])
    assert np.isnan(grid.images[4:, 3:]).all()


@pytest.mark.parametrize(
    ("n", "shape"), [(1, (1, 1)), (2, (1, 2)), (13, (4, 4)), (16, (4, 4)), (30, (5, 6)), (64, (8, 8))]
)
def test_samples_are_in_reading_order(n, shape):
    grid = sample_grid(numbered(n))
    assert grid.images.shape[:2] == shape
    flat = grid.images.reshape(-1, 2, 2, 1)
    np.testing.assert_array_equal(flat[:n], numbered(n))
    assert np.isnan(flat[n:]).all()
    assert sample_grid(numbered(n), columns=3).images.shape[1] == min(3, n)


def test_traversals_are_labelled():
    grid = traversal_grid(np.zeros((2, 3, 4, 4, 1)), ["z12", "c3"], [1.2, 0.3], ["a", "b", "c"])
    assert grid.row_labels == ("z12  KL 1.20", "c3  KL 0.30")
    assert grid.column_labels == ("a", "b", "c")
    plain = traversal_grid(np.zeros((2, 3, 4, 4, 1)), ["z1", "z0"])
    assert plain.row_labels == ("z1", "z0") and plain.column_labels == ()


def test_bars_fall_and_carry_their_latent():
    bars = kl_bars([0.2, 3.0, 0.0, 1.0])
    assert bars.labels == ("z1", "z3", "z0", "z2")
    np.testing.assert_array_equal(bars.heights, [3.0, 1.0, 0.2, 0.0])
    assert kl_bars([0.2, 3.0], ["z0", "c0"]).labels == ("c0", "z0")


def test_training_curves_from_lines_of_json():
    rows = [
        {"step": 0, "elbo": [-9.0, -8.0], "kl": [0.0, 0.1], "finite": 1, "phase": "a"},
        {"step": 10, "elbo": [-7.0, None], "train_loss": 7.0},
        {"step": 30, "elbo": [math.nan, -5.0], "kl": [0.5, 0.6], "learning_rate": 0.1},
    ]
    rows = [json.loads(json.dumps(row)) for row in rows]
    panels = training_curves(rows, metrics=("kl", "elbo"))
    assert list(panels) == ["kl", "elbo"]
    np.testing.assert_array_equal(panels["kl"].x, [0, 10, 30])
    assert list(panels["elbo"].lines) == ["member 0", "member 1"]
    np.testing.assert_array_equal(panels["elbo"].lines["member 1"], [-8.0, np.nan, -5.0])
    np.testing.assert_array_equal(panels["kl"].lines["member 0"], [0.0, np.nan, 0.5])
    every = training_curves(rows)
    assert list(every) == ["elbo", "kl", "finite", "train_loss", "learning_rate"]
    assert [panel.y_label for panel in every.values()] == ["nats", "nats", "", "nats", ""]
    assert [panel.title for panel in every.values()] == ["ELBO", "KL", "Finite", "Train loss", "Learning rate"]
    assert list(training_curves(rows, members=("a", "b"), metrics=("elbo",))["elbo"].lines) == ["a", "b"]


@pytest.mark.slow
def test_all_of_them_can_be_drawn(tmp_path):
    images = load_digits().images[:40, ..., None] / 16.0
    rows = [{"step": step, "elbo": [-float(step)] * 16, "kl": [1.0] * 16} for step in range(3)]
    records = {
        "reconstructions": reconstruction_grid(images[:13], images[:13]),
        "samples": sample_grid(images[:39]),
        "traversals": traversal_grid(images.reshape(4, 10, 8, 8, 1), ["z3", "z1", "z0", "c2"], np.ones(4)),
        "manifold": manifold_grid(images[:36].reshape(6, 6, 8, 8, 1)),
        "kl": kl_bars(np.linspace(0, 2, 50)),
        "training": list(training_curves(rows).values()),
    }
    for name, record in records.items():
        assert save(record, tmp_path / f"{name}.png").stat().st_size > 2000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reconstruction_grid(numbered(3), numbered(2)), "like originals"),
        (lambda: reconstruction_grid(numbered(0), numbered(0)), "n > 0"),
        (lambda: sample_grid(np.zeros((3, 8, 8))), "add the channel axis"),
        (lambda: sample_grid(np.full((1, 8, 8, 1), 16, np.uint8)), "divide by the largest level"),
        (lambda: traversal_grid(np.zeros((2, 3, 4, 4, 1)), ["z0"], [1.0, 1.0]), "name the latent of each row"),
        (lambda: traversal_grid(np.zeros((2, 3, 4, 4, 1)), ["z0", "z1"], [1.0]), "name the latent of each row"),
        (lambda: traversal_grid(np.zeros((1, 3, 4, 4, 1)), ["z0"], [1.0], ["0"]), "1 columns are labelled, expected 3"),
        (lambda: manifold_grid(np.zeros((3, 4, 4, 1))), r"expected \[num, num, h, w, c\]"),
        (lambda: kl_bars([]), r"expected \[d\] with d > 0"),
        (lambda: kl_bars(np.ones((2, 2))), "average over the examples"),
        (lambda: kl_bars(np.ones(2), ["z0"]), "1 names for 2 latents"),
        (lambda: training_curves([]), "got no rows"),
        (lambda: training_curves([{"elbo": 1.0}]), "row 0 has no 'step'"),
        (lambda: training_curves([{"step": 0, "elbo": 1.0}], metrics=("kl",)), "no row has kl, expected some of elbo"),
        (lambda: training_curves([{"step": 0, "elbo": [1.0]}, {"step": 1, "elbo": [1.0, 2.0]}]), "1 to 2 entries"),
        (lambda: training_curves([{"step": 0, "elbo": [1.0, 2.0]}], members=("a",)), "2 members"),
        (lambda: training_curves([{"step": 0, "elbo": [1.0, 2.0]}], members=("a", "a")), "as many different names"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
