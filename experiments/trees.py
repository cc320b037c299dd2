"""Codes of a tree in the Poincaré disk and in the plane, and how well their distances follow the tree's.

``python experiments/trees.py`` trains ``poincare_vae`` and ``vae``, both with two latents, on noisy vectors of the nodes of a tree
(``--dataset=branching_tree``). It prints log-likelihoods and the rank correlation of distances between codes with the numbers
of edges between nodes, and draws the codes of all nodes with the tree's edges: geodesics in the disk, lines in the plane. Flags of
both models, such as --steps and --seeds, are passed on; means ± standard errors are over seeds.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import numpy as np

import vaex
from vaex import plots
from vaex.api.run import Run
from vaex.api.trained_model import TrainedModel
from vaex.cli.parse import read_options
from vaex.data.synthetic.trees import NAME, Tree, branching_tree
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.plots.records import Scatter
from vaex.results.compare import aligned, cell

MODELS = ("poincare_vae", "vae")
POINTS = 20  # of an edge


def mobius_sum(x: np.ndarray, y: np.ndarray, c: float) -> np.ndarray:
    """Return the Möbius sum of x and y [..., 2] in the disk of curvature -c."""
    xy, xx, yy = (np.sum(a * b, axis=-1, keepdims=True) for a, b in ((x, y), (x, x), (y, y)))
    return ((1 + 2 * c * xy + c * yy) * x + (1 - c * xx) * y) / (1 + 2 * c * xy + c * c * xx * yy)


def distances(z: np.ndarray, c: float) -> np.ndarray:
    """Return the distances between codes z [m, 2] in the disk of curvature -c, in the plane for c = 0: [m, m].

    Example:
      >>> distances(np.array([[0.0, 0.0], [0.5, 0.0]]), 1.0).round(4)[0, 1], distances(np.eye(2), 0.0).round(4)[0, 1]
      (np.float64(1.0986), np.float64(1.4142))
    """
    if c == 0:
        return np.linalg.norm(z[:, None] - z, axis=-1)
    return 2 / np.sqrt(c) * np.arctanh(np.sqrt(c) * np.linalg.norm(mobius_sum(-z[:, None], z[None], c), axis=-1))


def edges(z: np.ndarray, tree: Tree, c: float) -> np.ndarray:
    """Return the edges between the codes z [m, 2] of the tree's nodes as curves, [m - 1, POINTS, 2]."""
    child, parent, share = z[1:, None], z[tree.parents[1:], None], np.linspace(0.0, 1.0, POINTS)[:, None]
    if c == 0:
        return parent + share * (child - parent)
    way = mobius_sum(-parent, child, c)
    length = np.maximum(np.sqrt(c) * np.linalg.norm(way, axis=-1, keepdims=True), 1e-12)
    return mobius_sum(parent, np.tanh(share * np.arctanh(length)) * way / length, c)


def curvature(model: TrainedModel) -> float:
    """Return c of a model in the disk, 0 of one in the plane."""
    return float(model.hparams.curvature) if hasattr(model.hparams, "curvature") else 0.0


def codes(model: TrainedModel, tree: Tree) -> np.ndarray:
    """Return the codes of the nodes' vectors, without noise, [m, 2]."""
    return np.asarray(model.encode(tree.vectors).mean, np.float64)


def rank_correlation(model: TrainedModel, tree: Tree) -> float:
    """Return Spearman's correlation of the distances of codes and of nodes, over all pairs."""
    from scipy.stats import spearmanr

    pairs = np.triu_indices(len(tree.vectors), 1)
    result: Any = spearmanr(distances(codes(model, tree), curvature(model))[pairs], tree.distances()[pairs])
    return float(result.statistic)


def drawn(run: Run, tree: Tree, title: str) -> Scatter:
    """Return the first member's codes and edges."""
    z, c = codes(run[0], tree), curvature(run[0])
    paths = {"edge": edges(z, tree, c)}
    if c:
        angle = np.linspace(0.0, 2 * np.pi, 200)
        paths["boundary"] = np.stack([np.cos(angle), np.sin(angle)], axis=-1)[None] / np.sqrt(c)
    return Scatter(z, tree.branches, "z0", "z1", title, paths)


def row(name: str, run: Run, tree: Tree) -> list[str]:
    """Return the cells of a model."""
    assert run.summary is not None
    members = run.summary["members"]
    columns = [[member[metric] for member in members] for metric in ("elbo", "log_likelihood")]
    columns.append([rank_correlation(run[index], tree) for index in range(len(run))])
    estimates = [estimate(np.asarray(values)) for values in columns]
    return [name, *(cell(e.mean, e.standard_error if len(members) > 1 else None) for e in estimates)]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; with --out, keep the runs and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="folder for the runs and tree.png (default: not kept)")
    flags, others = parser.parse_known_args(arguments)
    tree, lines, panels = branching_tree(), [["", "elbo", "log_likelihood", "rank correlation of distances"]], []
    try:
        given = {name: {"steps": 3000, "seeds": range(3)} | read_options(name, others) for name in MODELS}
        for name, options in given.items():
            out = None if flags.out is None else flags.out / name
            run = vaex.train(name, NAME, out=out, evaluate=True, latent_dim=2, **options)
            lines.append(row(name, run, tree))
            panels.append(drawn(run, tree, name.replace("_", " ")))
        print("nats per example of the test split; colours are the four branches, and the root with its children")
        print(aligned(lines))
    except UserError as error:
        print(f"trees: {error}", file=sys.stderr)
        return error.exit_code
    if flags.out:
        print(f"\nfigure: {plots.save(panels, flags.out / 'tree.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
