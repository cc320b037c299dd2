"""Use of the codebook by a model with maps of codes, and quality and novelty of samples from its prior.

``python experiments/codebooks.py`` trains vq_vae on digits and prints two tables. The first shows how many codes are used with a
codebook updated by moving averages, with and without the replacement of dead codes, and with a codebook updated by gradients. The
second takes the first of these with its fully trained prior: how sure a classifier of the training images is of samples, how many
classes it assigns, and the distance to the nearest training images, beside the same for unseen images; and the bound on the
log-likelihood. --out keeps the runs and a figure of samples above their nearest training images. Other flags go to all runs:
``python experiments/codebooks.py --dataset=mnist --downsampling=4 --steps=5000 --prior_steps=5000``.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.api.run import Run
from vaex.cli.parse import read_options
from vaex.data.loader.lazy_inputs import chosen_intensities
from vaex.data.spec import Dataset
from vaex.errors import Interrupted, UserError
from vaex.evaluation.examples import chosen_examples
from vaex.evaluation.likelihood import bits_per_dimension
from vaex.plots.records import Grid
from vaex.results.compare import aligned, cell
from vaex.runs import setup

SURE = 0.9  # probability from which the classifier counts as sure
SHOWN = 12  # samples in the figure
VARIANTS: dict[str, dict[str, Any]] = {
    "ema, dead codes replaced": {},
    "ema, dead codes kept": {"dead_share": 0.0},
    "gradient": {"codebook": "gradient"},
}


class Looks(NamedTuple):
    """Appearance of images to a classifier and beside the training images.

    Attributes:
      sure: share of images to which it assigns a class with a probability of at least ``SURE``.
      classes: number of classes among these.
      distances: [n], to the nearest training image.
      nearest: [n], index of that training image.
    """

    sure: float
    classes: int
    distances: np.ndarray
    nearest: np.ndarray

    def cells(self) -> list[str]:
        """Return the cells of a table."""
        return [f"{self.sure:.1%}", str(self.classes), f"{np.median(self.distances):.3f}"]


def trained(flags: argparse.Namespace, folder: pathlib.Path, **options: Any) -> Run:
    """Train and evaluate a model, which reports on standard error; ``options`` replace those of this script's command line."""
    return vaex.train(flags.model, out=folder, evaluate=True, **{"eval_split": flags.split, **flags.options, **options})


def summary_of(run: Run) -> dict[str, Any]:
    """Return the evaluation of a run that was trained with one."""
    assert run.summary is not None
    return run.summary


def codebooks(flags: argparse.Namespace, folder: pathlib.Path, complete: dict[str, Any]) -> str:
    """Return the first table; ``complete`` is the summary of the first variant, the others train their first stage alone."""
    names = [name for name in complete["members"][0] if name.startswith(("perplexity", "usage"))]
    names = [name for name in names if "_standard_error" not in name]
    lines = [["codebook", *names, "reconstruction"]]
    for index, (variant, options) in enumerate(VARIANTS.items()):
        summary = complete
        if options:
            summary = summary_of(trained(flags, folder / str(index), prior_steps=1, figures=False, **options))
        member = summary["members"][0]
        lines.append([variant, *(cell(member.get(name)) for name in (*names, "reconstruction"))])
    return aligned(lines)


def images(dataset: Dataset, spec: Any, split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return some labelled images of a split, chosen at random, as figures show them, [n, values], and their labels."""
    arrays = dataset.splits[split]
    if "y" not in arrays:
        raise UserError(
            f"--dataset={spec.name}: a classifier needs labels, and this data set has none; choose a labelled one"
        )
    labelled = np.flatnonzero(arrays["y"] >= 0)
    rows = labelled[np.sort(chosen_examples(len(labelled), most))]
    return chosen_intensities(spec, arrays["x"], rows, 500).reshape(len(rows), -1), arrays["y"][rows]


class Judge:
    """Classifier and nearest-neighbour index of the training images."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neighbors import NearestNeighbors
        from sklearn.neural_network import MLPClassifier

        self.x = x
        epochs = min(500, max(20, 600_000 // len(x)))  # roughly equal numbers of updates for few and many images
        self.classifier = MLPClassifier((256,), max_iter=epochs, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # accurate enough for this purpose
            self.classifier.fit(x, y)
        self.neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x)

    def looks(self, images: np.ndarray) -> Looks:
        """Describe images [n, values]."""
        shares = np.asarray(self.classifier.predict_proba(images))
        sure = shares.max(axis=1) >= SURE
        distances, nearest = self.neighbours.kneighbors(images)
        return Looks(float(sure.mean()), len(np.unique(shares.argmax(axis=1)[sure])), distances[:, 0], nearest[:, 0])


def prior(flags: argparse.Namespace, run: Run, dataset: Dataset) -> tuple[str, Grid]:
    """Return the second table, and a figure of samples above their nearest training images."""
    train, labels = images(dataset, run.spec, "train", flags.train)
    unseen, truth = images(dataset, run.spec, flags.split, flags.samples)
    judge = Judge(train, labels)
    lines = [["images", f"sure (p >= {SURE})", "classes", "distance to the nearest training image"]]
    lines.append([f"{flags.split}, {len(unseen)}", *judge.looks(unseen).cells()])
    rows, names = [], []
    for temperature in flags.temperature:
        drawn = np.clip(run[0].sample(jax.random.key(1), flags.samples, temperature=temperature), 0.0, 1.0)
        looks = judge.looks(drawn.reshape(len(drawn), -1))
        lines.append([f"samples, temperature {temperature:g}", *looks.cells()])
        few = train[looks.nearest[:SHOWN]].reshape(-1, *run.spec.shape)
        rows += [drawn[:SHOWN], few]
        names += [f"samples, {temperature:g}", "nearest"]
    accuracy = float(np.mean(judge.classifier.predict(unseen) == truth))
    note = f"the classifier is right on {accuracy:.1%} of {flags.split}; {bound(run, summary_of(run))}"
    grid = Grid(np.stack(rows), tuple(names), title="Samples above their nearest training images")
    return f"{aligned(lines)}\n{note}", grid


def bound(run: Run, summary: dict[str, Any]) -> str:
    """Describe the bound on the log-likelihood, in nats and, where the levels of the data are known, in bits per dimension."""
    nats = summary["members"][0]["log_likelihood"]
    if nats is None:
        return "the likelihood is no density of the data"
    spec, discrete = run.spec, run.recipe.likelihood.discrete
    levels = 2 if spec.binarize != "none" or spec.kind == "binary" else spec.levels
    known = levels is not None and (discrete or spec.dequantize == "uniform")
    bits = (
        bits_per_dimension(nats, int(np.prod(spec.shape)), levels=levels or 2, density=not discrete) if known else None
    )
    in_bits = "" if bits is None else f", {bits:.4f} bits per dimension of {levels} levels"
    return f"log p(x) >= {nats:.2f} nats{in_bits} ({summary['protocol']})"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; with --out, keep the runs and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vq_vae", help="(default: %(default)s)")
    parser.add_argument("--split", choices=("validation", "test"), default="validation", help="(default: %(default)s)")
    parser.add_argument("--samples", type=int, default=1000, help="that the classifier sees (default: %(default)s)")
    parser.add_argument(
        "--train", type=int, default=60_000, help="training images it is fitted to (default: %(default)s)"
    )
    parser.add_argument("--temperature", type=float, nargs="+", default=[1.0, 0.8], help="of samples (default: 1 0.8)")
    parser.add_argument("--skip-variants", action="store_true", help="leave out the first table")
    parser.add_argument("--out", type=pathlib.Path, help="folder for the runs and nearest.png (default: not kept)")
    flags, others = parser.parse_known_args(arguments)
    if min(flags.samples, flags.train) < SHOWN:
        parser.error(f"--samples and --train: expected at least {SHOWN}")
    try:
        flags.options = read_options(flags.model, others)
        if "eval_split" in flags.options:
            raise UserError("--eval_split is called --split here")
        with tempfile.TemporaryDirectory() as temporary:
            folder = flags.out or pathlib.Path(temporary)
            run = trained(flags, folder / "0")
            if not flags.skip_variants:
                print(codebooks(flags, folder, summary_of(run)), end="\n\n")
            table, grid = prior(flags, run, setup.load_dataset(run.settings.data))
            print(table)
    except (UserError, Interrupted) as error:
        print(f"codebooks: {error}", file=sys.stderr)
        return error.exit_code
    if flags.out:
        plots.save(grid, flags.out / "nearest.png")
        print(f"\nfigure: {flags.out / 'nearest.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
