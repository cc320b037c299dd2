"""Samples of several models of the same data beside each other: a figure, and a table of their quality.

``python experiments/samples.py --models=vae,adversarial_autoencoder,vae_gan --likelihood=gaussian --dataset=mnist``
trains each model with the same flags, draws rows of its samples below training images, and scores them against held-out images
in principal components, with training images in their place as the floor. ``--examples=100`` trains on as many images. Flags of
all the models, such as --steps, --latent_dim and --manual_dir, are passed on; with --out the runs are kept, and the same
command continues them.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.api.run import Run
from vaex.cli.parse import read_options
from vaex.data import Dataset
from vaex.data.loader.lazy_inputs import chosen_intensities
from vaex.data.storage.splits import data_hash
from vaex.errors import UserError
from vaex.evaluation.examples import random_order
from vaex.plots.records import Grid
from vaex.results.compare import aligned, cell

SHOWN = 14  # images in a row
SCORES = ("frechet_distance", "precision", "recall", "coverage")
SOURCE = ("data_dir", "manual_dir", "image_size")  # flags with which the data itself is read


def trained(flags: argparse.Namespace, name: str, options: dict[str, Any]) -> Run:
    """Train a model, which reports on standard error; with --out the run is kept in the folder ``name`` there."""
    return vaex.train(name, flags.data, out=None if flags.out is None else flags.out / name, **options)


def few(dataset: Dataset, count: int) -> Dataset:
    """Return a data set with ``count`` of its training examples, chosen at random.

    Raises: UserError for more examples than there are, or data that is rendered in training.
    """
    total = len(dataset.splits["train"]["x"])
    if dataset.source is not None or not 1 <= count <= total:
        most = (
            "is rendered in training; leave it out"
            if dataset.source
            else f"has {total} training examples; give 1 to {total}"
        )
        raise UserError(f"--examples={count}: {dataset.spec.name} {most}")
    rows = np.sort(random_order(total)[:count])
    train = {column: np.asarray(values)[rows] for column, values in dataset.splits["train"].items()}
    splits = {**dataset.splits, "train": train}
    spec = dataset.spec._replace(
        num_training_examples=count,
        data_hash=data_hash(splits),
        protocol=f"{count}_training_examples_of_{dataset.spec.protocol}",
    )
    return dataset._replace(splits=splits, spec=spec)


def rows_of(flags: argparse.Namespace, run: Run) -> np.ndarray:
    """Return rows of samples, means of p(x|z), clipped to [0, 1]: [rows, SHOWN, h, w, c]."""
    drawn = np.clip(np.asarray(run[0].sample(jax.random.key(flags.key), flags.rows * SHOWN)), 0.0, 1.0)
    return drawn.reshape(flags.rows, SHOWN, *drawn.shape[1:])


def training_row(run: Run, dataset: Dataset) -> np.ndarray:
    """Return a row of training images, [1, SHOWN, h, w, c]."""
    x = dataset.splits["train"]["x"]
    return np.asarray(chosen_intensities(run.spec, x, np.resize(random_order(len(x)), SHOWN), SHOWN))[None]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; with --out, keep the runs and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="vae,adversarial_autoencoder,vae_gan", help="(default: %(default)s)")
    parser.add_argument("--dataset", default="digits", help="(default: %(default)s)")
    parser.add_argument("--examples", type=int, help="training images, chosen at random (default: all)")
    parser.add_argument(
        "--rows", type=int, default=2, help="of samples of each model in the figure (default: %(default)s)"
    )
    parser.add_argument("--key", type=int, default=0, help="of the samples in the figure (default: %(default)s)")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="(default: %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the runs and samples.png (default: not kept)")
    flags, others = parser.parse_known_args(arguments)
    names = flags.models.split(",")
    try:
        given = {name: read_options(name, others) for name in names}
        source = {flag: value for flag, value in given[names[0]].items() if flag in SOURCE}
        dataset = vaex.Dataset.load(flags.dataset, **source)
        flags.data, lines, images, labels = flags.dataset, [["", *SCORES]], [], []
        if flags.examples is not None:
            flags.data = few(dataset, flags.examples)
        for name in names:
            unused = () if flags.examples is None else SOURCE
            options = {flag: value for flag, value in given[name].items() if flag not in unused}
            run = trained(flags, name, options)
            scores = run.score(("samples",), dataset, split=flags.split, examples=1000)
            if not images:
                images, labels = [training_row(run, dataset)], ["training images"]
                lines.append(["training images", *(cell(scores.values[-1][s].mean) for s in SCORES)])
            lines.append([name, *(cell(scores.values[0][s].mean, scores.values[0][s].standard_error) for s in SCORES)])
            images.append(rows_of(flags, run))
            labels += [name.replace("_", " ")] + [""] * (flags.rows - 1)
        print(aligned(lines), *scores.notes(), sep="\n")
    except UserError as error:
        print(f"samples: {error}", file=sys.stderr)
        return error.exit_code
    if flags.out:
        grid = Grid(
            np.concatenate(images), tuple(labels), title=f"Samples (means of p(x|z)) of models of {flags.dataset}"
        )
        print(f"\nfigure: {plots.save(grid, flags.out / 'samples.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
