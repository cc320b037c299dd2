"""The data set in the shape of a tree: its structure, its splits, its noise."""

import numpy as np

from vaex import data
from vaex.data.synthetic.trees import COPIES, NOISE, branching_tree


def test_nodes_descend_from_their_parents():
    tree = branching_tree()
    assert len(tree.parents) == 127 and tree.depths[[0, 1, 2, 3, 126]].tolist() == [0, 1, 1, 2, 6]
    assert np.array_equal(tree.depths[1:], tree.depths[tree.parents[1:]] + 1)
    assert np.bincount(tree.branches).tolist() == [31, 31, 31, 31, 3]
    steps = tree.vectors[1:] - tree.vectors[tree.parents[1:]]
    np.testing.assert_allclose(np.std(steps), 1.0, atol=0.03)
    deep = tree.branches[7:] == tree.branches[tree.parents[7:]]
    assert deep.all()


def test_distances_count_edges():
    """Against Floyd and Warshall's algorithm."""
    tree = branching_tree()
    m = len(tree.parents)
    shortest = np.full((m, m), 999)
    np.fill_diagonal(shortest, 0)
    shortest[np.arange(1, m), tree.parents[1:]] = shortest[tree.parents[1:], np.arange(1, m)] = 1
    for via in range(m):
        shortest = np.minimum(shortest, shortest[:, via, None] + shortest[None, via])
    np.testing.assert_array_equal(tree.distances(), shortest)


def test_examples_are_noisy_nodes():
    dataset, tree = data.load("branching_tree"), branching_tree()
    assert dataset.spec.kind == "real" and dataset.spec.shape == (50,) and dataset.spec.num_classes == 5
    for split, copies in COPIES.items():
        x, y = dataset.splits[split]["x"], dataset.splits[split]["y"]
        nearest = np.argmin(np.sum(np.square(x[:, None] - tree.vectors), axis=-1), axis=1)
        assert np.bincount(nearest, minlength=127).tolist() == [copies] * 127
        np.testing.assert_array_equal(y, tree.branches[nearest])
        np.testing.assert_allclose(np.std(x - tree.vectors[nearest]), NOISE, rtol=0.02)
    assert data.load("branching_tree").spec.data_hash == dataset.spec.data_hash
