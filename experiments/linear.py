"""Linear models against their exact solutions: PCA's subspace and probabilistic PCA's maximum likelihood.

``python experiments/linear.py`` trains ``linear_autoencoder`` and ``linear_vae`` on digits with vaex's loop. It prints the largest
angle between each subspace and PCA's, and the linear VAE's log-likelihood minus the maximum (Tipping & Bishop 1999, eqs. 7 and 8),
both exact. A positive difference is chance on unseen examples, and impossible on the training split.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import NamedTuple

import numpy as np
from scipy import linalg, stats
from sklearn.decomposition import PCA

import vaex
from vaex import data
from vaex.api.trained_model import TrainedModel
from vaex.configuration.grammar import read_seeds
from vaex.data.spec import Dataset
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.results.compare import aligned, cell

MODELS = ("linear_autoencoder", "linear_vae")


class Affine(NamedTuple):
    """Gaussian N(x; mean, weights weights^T + variance I), float64: ``weights`` [values, d], ``mean`` [values]."""

    weights: np.ndarray
    mean: np.ndarray
    variance: float

    def log_likelihood(self, x: np.ndarray) -> float:
        """Return the mean log-likelihood of examples x [n, values], nats."""
        covariance = self.weights @ self.weights.T + self.variance * np.eye(len(self.mean))
        return float(np.mean(stats.multivariate_normal.logpdf(x, self.mean, covariance)))  # pyright: ignore[reportArgumentType]

    def angle(self, other: Affine) -> float:
        """Return the largest principal angle between the two subspaces, degrees."""
        return float(np.degrees(np.max(linalg.subspace_angles(self.weights, other.weights))))


def maximum(x: np.ndarray, latents: int) -> Affine:
    """Return probabilistic PCA's maximum likelihood solution for x [n, values]; its subspace is PCA's.

    Raises: UserError where there are as many latents as values.
    """
    if not 0 < latents < x.shape[1]:
        raise UserError(
            f"--latents={latents}: expected at least 1, and fewer than the {x.shape[1]} values of an example"
        )
    pca = PCA().fit(x)
    eigenvalues = np.asarray(pca.explained_variance_) * (len(x) - 1) / len(x)  # maximum likelihood divides by n
    variance = float(np.sum(eigenvalues[latents:]) / (x.shape[1] - latents))
    weights = np.asarray(pca.components_)[:latents].T * np.sqrt(eigenvalues[:latents] - variance)
    return Affine(weights, np.asarray(pca.mean_), variance)


def learned(run: TrainedModel) -> Affine:
    """Return the affine map of a trained linear decoder, with its likelihood's variance."""
    (latents,) = run.latent_shape
    decoded = run.decode(np.concatenate([np.zeros((1, latents)), np.eye(latents)]))
    means = np.asarray(decoded.mean, np.float64).reshape(latents + 1, -1)
    return Affine((means[1:] - means[0]).T, means[0], float(np.ravel(decoded.variance)[0]))


def examples(dataset: Dataset, split: str) -> np.ndarray:
    """Return x [n, values], float64, as the models receive it."""
    x = dataset.splits[split]["x"]
    return np.asarray(data.intensities(dataset.spec, x), np.float64).reshape(len(x), -1)


def measure(flags: argparse.Namespace) -> str:
    """Train the models of all seeds, and return the table, headed by the maximal log-likelihood.

    Raises: UserError for what ``vaex.train`` refuses.
    """
    dataset, seeds = data.load(flags.dataset), read_seeds(flags.seeds)
    train, unseen = examples(dataset, "train"), examples(dataset, flags.split)
    best = maximum(train, flags.latents)
    lines = [["model", "seed", "angle to PCA (degrees)", f"minus the maximum, {flags.split}", "train"]]
    for model in MODELS:
        out = None if flags.out is None else flags.out / model
        run = vaex.train(model, dataset, latent_dim=flags.latents, steps=flags.steps, seeds=seeds, out=out)
        solutions = [learned(member) for member in run]
        columns = [[solution.angle(best) for solution in solutions]]
        if model == "linear_vae":
            columns += [
                [solution.log_likelihood(x) - best.log_likelihood(x) for solution in solutions] for x in (unseen, train)
            ]
        blank = ["-"] * (3 - len(columns))
        for seed, values in zip(seeds, zip(*columns, strict=True), strict=True):
            lines.append([model, str(seed), *(cell(value, digits=2) for value in values), *blank])
        if len(seeds) > 1:
            means = (cell(*estimate(np.array(values))[:2], digits=2) for values in columns)
            lines.append([model, "mean", *means, *blank])
    heading = (
        f"{flags.dataset}, {flags.latents} latents, nats per example; probabilistic PCA's maximum has "
        f"{best.log_likelihood(unseen):.4f} on {flags.split} ({len(unseen)} examples), {best.log_likelihood(train):.4f} on train"
    )
    return f"{heading}\n{aligned(lines)}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return 2 where the models cannot be trained with these flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="(default: %(default)s)")
    parser.add_argument("--latents", type=int, default=10, help="of both models and of PCA (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training (default: that of the models)")
    parser.add_argument("--seeds", default="0:3", help="(default: %(default)s)")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the run directories (default: not kept)")
    flags = parser.parse_args(arguments)
    try:
        print(measure(flags))
    except UserError as error:
        print(f"linear: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
