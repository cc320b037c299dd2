"""Missing entries of tables: imputed by a VAE, by scikit-learn's IterativeImputer, and by the mean of the column.

``python experiments/imputation.py`` removes 20% of the entries of tables that scikit-learn ships, at random, and prints the root
mean squared error of the imputed ones in standard deviations of their column, over draws of the removed entries. All methods are
fitted to all rows, without the removed entries. ``--model=iwae`` is MIWAE (Mattei & Frellsen 2019). The iterative imputer has its
defaults, a Bayesian ridge regression of each column on the others, but up to 50 rounds. ``--figure=FILE.png`` draws the entries of
the last table, as imputed over as removed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.configuration.grammar import read_names
from vaex.errors import UserError, nearest
from vaex.evaluation.likelihood import estimate
from vaex.plots.records import Scatter
from vaex.results.compare import aligned, cell

ROUNDS = 50
# table -> what is chosen for its size
TABLES: dict[str, dict[str, Any]] = {
    "wine": {"latent_dim": 4, "steps": 1000},
    "breast_cancer": {"latent_dim": 10, "steps": 4000},
    "diabetes": {"latent_dim": 5, "steps": 1500, "batch_size": 100},
}


def load(name: str) -> np.ndarray:
    """Return the table [n, d] in its own units."""
    from sklearn import datasets

    bunch: Any = datasets.load_diabetes(scaled=False) if name == "diabetes" else getattr(datasets, f"load_{name}")()
    return np.asarray(bunch.data, np.float64)


def with_gaps(x: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return the table with this share of its entries replaced by NaN, and at least one entry left in each row."""
    rng = np.random.default_rng(seed)
    missing = rng.random(x.shape) < share
    missing[np.arange(len(x)), rng.integers(0, x.shape[1], len(x))] = False
    return np.where(missing, np.nan, x)


def by_model(gaps: np.ndarray, name: str, flags: argparse.Namespace, seed: int) -> np.ndarray:
    """Train on all rows; return the table with importance-weighted means in its gaps."""
    options = {**TABLES[name], **({"steps": flags.steps} if flags.steps else {})}
    splits = {f"x_{split}": gaps for split in ("train", "validation", "test")}
    run = vaex.train(
        flags.model, splits, hidden=(128, 128), likelihood_scale="per_column", seeds=seed, progress=False, **options
    )
    return np.asarray(run.impute(jax.random.key(seed), gaps, num_samples=flags.samples).mean, np.float64)


def by_regressions(gaps: np.ndarray, seed: int) -> np.ndarray:
    """Return the table as scikit-learn's IterativeImputer fills it."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(IterativeImputer(max_iter=ROUNDS, random_state=seed).fit_transform(gaps))


def by_means(gaps: np.ndarray) -> np.ndarray:
    """Return the table with the mean of the observed entries of a column in its gaps."""
    return np.where(np.isnan(gaps), np.nanmean(gaps, axis=0), gaps)


def error(filled: np.ndarray, x: np.ndarray, gaps: np.ndarray) -> float:
    """Return the root mean squared error of the imputed entries, in standard deviations of their column."""
    return float(np.sqrt(np.mean(np.square((filled - x) / x.std(axis=0))[np.isnan(gaps)])))


def panels(methods: dict[str, np.ndarray], x: np.ndarray, gaps: np.ndarray) -> list[Scatter]:
    """Return for each method its imputed entries over the removed ones, in standard deviations from the mean of their column."""
    missing, scaled = np.isnan(gaps), lambda table: (table - x.mean(axis=0)) / x.std(axis=0)
    removed = scaled(x)[missing]
    return [
        Scatter(
            np.stack([removed, scaled(filled)[missing]], axis=1),
            x_label="removed entry",
            y_label="imputed entry",
            title=f"{name}: error {error(filled, x, gaps):.3f}",
        )
        for name, filled in methods.items()
    ]


def measure(flags: argparse.Namespace) -> tuple[str, list[Scatter]]:
    """Impute each table by each method; return the errors as a table, and a figure of the last draw of the last table."""
    rows, figure = [["table", flags.model, "iterative", "mean"]], []
    for name in read_names(flags.tables):
        if name not in TABLES:
            raise UserError(f"--tables={name}: {nearest(name, [*TABLES])}")
        x = load(name)
        errors = []
        for seed in range(flags.draws):
            gaps = with_gaps(x, flags.share, seed)
            filled = by_model(gaps, name, flags, seed), by_regressions(gaps, seed), by_means(gaps)
            errors.append([error(table, x, gaps) for table in filled])
            figure = panels(dict(zip(rows[0][1:], filled, strict=True)), x, gaps)
        rows.append([f"{name}, {len(x)} rows of {x.shape[1]} columns"])
        for method in zip(*errors, strict=True):
            mean, standard_error, *_ = estimate(np.array(method))
            rows[-1].append(cell(mean, standard_error if flags.draws > 1 else None))
    return aligned(rows), figure


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tables", default=",".join(TABLES), help="of those that scikit-learn ships (default: %(default)s)"
    )
    parser.add_argument(
        "--model", default="vae", help="model of vaex with latents and a density (default: %(default)s)"
    )
    parser.add_argument("--share", type=float, default=0.2, help="of entries that are removed (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=3, help="of the removed entries (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1000, help="importance samples (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training (default: of each table, 1000 to 4000)")
    parser.add_argument("--figure", metavar="FILE.png", help="draws the last table's entries, imputed over removed")
    flags = parser.parse_args(arguments)
    try:
        if not 0 < flags.share < 1 or min(flags.draws, flags.samples) < 1:
            raise UserError("--share lies between 0 and 1, --draws and --samples are at least 1")
        table, figure = measure(flags)
    except UserError as problem:
        print(f"imputation: {problem}", file=sys.stderr)
        return problem.exit_code
    print(table)
    if flags.figure is not None:
        print(plots.save(figure, flags.figure))
    return 0


if __name__ == "__main__":
    sys.exit(main())
