"""A data set in the shape of a tree: noisy vectors of the nodes of a branching diffusion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vaex.data.spec import Dataset, Spec, with_protocol
from vaex.data.storage.splits import data_hash, split_order

NAME = "branching_tree"
DEPTH, DIMENSION = 6, 50  # a root and six generations of two children each: 127 nodes
COPIES = {"train": 20, "validation": 5, "test": 5}  # noisy vectors of each node
NOISE = 5**-0.5  # their standard deviation; a child differs from its parent by 1 in each coordinate
TRUNK = "root and its children"


class Tree(NamedTuple):
    """Nodes of a tree, the root first, each generation after the one before it.

    Attributes:
      vectors: of the nodes, [m, DIMENSION].
      parents: number of each node's parent, [m]; -1 for the root.
      branches: number of the grandchild of the root that the node descends from, 0 to 3, [m]; 4 for the root and its children.
    """

    vectors: np.ndarray
    parents: np.ndarray
    branches: np.ndarray

    @property
    def depths(self) -> np.ndarray:
        """Generation of each node, [m]; 0 for the root."""
        return np.floor(np.log2(np.arange(1, len(self.parents) + 1))).astype(int)

    def distances(self) -> np.ndarray:
        """Return the number of edges between each two nodes, [m, m].

        Example:
          >>> branching_tree().distances()[3, [0, 1, 3, 4, 6]]
          array([2, 1, 0, 2, 4])
        """
        m = len(self.parents)
        lines = np.zeros((m, m), bool)  # whether a node is another one's ancestor, or itself
        for node, parent in enumerate(self.parents):
            lines[node] = lines[parent] if parent >= 0 else False
            lines[node, node] = True
        shared = lines.astype(int) @ lines.T - 1  # depth of the last common ancestor
        return self.depths[:, None] + self.depths - 2 * shared


def branching_tree() -> Tree:
    """Return a binary tree whose root is at 0 and whose children differ from their parents by N(0, I).

    References: Mathieu et al. 2019, section 5.1.
    """
    rng, m = np.random.default_rng(0), 2 ** (DEPTH + 1) - 1
    parents = (np.arange(m) - 1) // 2
    vectors, branches = np.zeros((m, DIMENSION)), np.full(m, 4)
    for node in range(1, m):
        vectors[node] = vectors[parents[node]] + rng.normal(size=DIMENSION)
        branches[node] = node - 3 if 3 <= node < 7 else branches[parents[node]]
    return Tree(vectors.astype(np.float32), parents, branches)


def load_tree() -> Dataset:
    """Return noisy vectors of the nodes of ``branching_tree``: x float32 [n, 50], "y" the branch.

    Example:
      >>> {name: split["x"].shape for name, split in load_tree().splits.items()}
      {'train': (2540, 50), 'validation': (635, 50), 'test': (635, 50)}
    """
    tree, rng, splits = branching_tree(), np.random.default_rng(1), {}
    for split, copies in COPIES.items():
        node = np.repeat(np.arange(len(tree.vectors)), copies)
        node = node[split_order(len(node))]
        x = tree.vectors[node] + NOISE * rng.normal(size=(len(node), DIMENSION))
        splits[split] = {"x": x.astype(np.float32), "y": tree.branches[node].astype(np.int32)}
    names = (*(f"branch {index}" for index in range(4)), TRUNK)
    spec = Spec(NAME, (DIMENSION,), "real", num_classes=len(names), label_names=names)
    return Dataset(splits, with_protocol(spec._replace(data_hash=data_hash(splits)), f"{NAME}_2540_635_635"))
