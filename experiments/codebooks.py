"""What a model with maps of codes does with its codebook, and whether its prior draws new images that look like the data.

``python experiments/codebooks.py`` trains vq_vae on digits and prints two tables. The first: how many codes are used with a
codebook moved by moving averages, with and without the replacement of dead codes, and with one moved by gradients. The second,
of the first of these with its whole prior: how sure a classifier of the training images is of samples, how many classes it finds
among them, how far the nearest training images are, beside the same of unseen images; and the bound on the log-likelihood.
--out keeps the runs and a picture of samples over their nearest training images. Other words go to all runs:
``python experiments/codebooks.py --dataset=mnist --downsampling=4 --steps=5000 --prior_steps=5000``.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import sys
import tempfile
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.cli import main as cli
from vaex.cli.parse import parse
from vaex.data.loader.inputs import shown
from vaex.data.spec import Dataset
from vaex.errors import UserError
from vaex.evaluation.likelihood import bits_per_dimension
from vaex.files import read_json
from vaex.plots.records import Grid
from vaex.runs import setup as experiment
from vaex.runs.compare import aligned, cell
from vaex.runs.trained import Run

SURE = 0.9  # probability from which on the classifier counts as sure
SHOWN = 12  # samples in the picture
VARIANTS = {
    "ema, dead codes replaced": (),
    "ema, dead codes kept": ("--dead_share=0",),
    "gradient": ("--codebook=gradient",),
}


class Looks(NamedTuple):
    """What images look like to a classifier: ``sure``, the share that it gives a class with at least ``SURE``; ``classes``
    found among these; ``distances`` [n] to the nearest training image, which is ``nearest`` [n]."""

    sure: float
    classes: int
    distances: np.ndarray
    nearest: np.ndarray

    def cells(self) -> list[str]:
        """As a table has them."""
        return [f"{self.sure:.1%}", str(self.classes), f"{np.median(self.distances):.3f}"]


def trained(flags: argparse.Namespace, folder: pathlib.Path, *words: str) -> tuple[Run, dict[str, Any]]:
    """A run of the command line, whose words go to standard error: its first member, and its summary. ``words`` come before
    the same flags of the command line."""
    own = {word.split("=")[0].replace("--no-", "--") for word in words}
    others = (word for word in flags.words if word.split("=")[0].replace("--no-", "--") not in own)
    words = (f"--model={flags.model}", f"--eval_split={flags.split}", *others, *words, f"--out={folder}")
    with contextlib.redirect_stdout(sys.stderr):
        cli.run(parse(words))
    return vaex.load(folder), read_json(folder / "summary.json")


def codebooks(flags: argparse.Namespace, folder: pathlib.Path, whole: dict[str, Any]) -> str:
    """The first table; the first variant is the whole run, of which the others are first stages."""
    names = [name for name in whole["members"][0] if name.startswith(("perplexity", "usage"))]
    names = [name for name in names if not name.endswith("_standard_error")]
    lines = [["codebook", *names, "reconstruction"]]
    for index, (variant, words) in enumerate(VARIANTS.items()):
        summary = whole
        if words:
            _, summary = trained(flags, folder / str(index), *words, "--prior_steps=1", "--no-figures")
        facts = summary["members"][0]
        lines.append([variant, *(cell(facts.get(name)) for name in (*names, "reconstruction"))])
    return aligned(lines)


def images(dataset: Dataset, spec: Any, split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first labelled images of a split as they are shown, [n, values], and their labels."""
    arrays = dataset.splits[split]
    if "y" not in arrays:
        raise UserError(
            f"--dataset={spec.name}: a classifier needs labels, and it has none; choose a labelled data set"
        )
    rows = np.flatnonzero(arrays["y"] >= 0)[:most]
    return shown(spec, arrays["x"], rows, 500).reshape(len(rows), -1), arrays["y"][rows]


class Judge:
    """A classifier of the training images, and the images themselves."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neighbors import NearestNeighbors
        from sklearn.neural_network import MLPClassifier

        self.x = x
        epochs = min(500, max(20, 600_000 // len(x)))  # about as many updates for few images as for many
        self.classifier = MLPClassifier((256,), max_iter=epochs, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # they are enough to judge by
            self.classifier.fit(x, y)
        self.neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(x)

    def looks(self, images: np.ndarray) -> Looks:
        """What images [n, values] look like."""
        shares = np.asarray(self.classifier.predict_proba(images))
        sure = shares.max(axis=1) >= SURE
        distances, nearest = self.neighbours.kneighbors(images)
        return Looks(float(sure.mean()), len(np.unique(shares.argmax(axis=1)[sure])), distances[:, 0], nearest[:, 0])


def prior(flags: argparse.Namespace, run: Run, summary: dict[str, Any], dataset: Dataset) -> tuple[str, Grid]:
    """The second table, and samples over their nearest training images."""
    train, labels = images(dataset, run.spec, "train", flags.train)
    unseen, truth = images(dataset, run.spec, flags.split, flags.samples)
    judge = Judge(train, labels)
    lines = [["images", f"sure (p >= {SURE})", "classes", "distance to the nearest training image"]]
    lines.append([f"{flags.split}, {len(unseen)}", *judge.looks(unseen).cells()])
    rows, names = [], []
    for temperature in flags.temperature:
        drawn = np.clip(run.sample(jax.random.key(1), flags.samples, temperature=temperature), 0.0, 1.0)
        looks = judge.looks(drawn.reshape(len(drawn), -1))
        lines.append([f"samples, temperature {temperature:g}", *looks.cells()])
        few = train[looks.nearest[:SHOWN]].reshape(-1, *run.spec.shape)
        rows += [drawn[:SHOWN], few]
        names += [f"samples, {temperature:g}", "nearest"]
    accuracy = float(np.mean(judge.classifier.predict(unseen) == truth))
    facts = f"the classifier is right on {accuracy:.1%} of {flags.split}; {bound(run, summary)}"
    return f"{aligned(lines)}\n{facts}", Grid(
        np.stack(rows), tuple(names), title="Samples over their nearest training images"
    )


def bound(run: Run, summary: dict[str, Any]) -> str:
    """The bound on the log-likelihood, in words: in bits per dimension, of the values that the likelihood knows."""
    nats = summary["members"][0]["log_likelihood"]
    if nats is None:
        return "the likelihood is no density of the data"
    spec, discrete = run.spec, run.recipe.likelihood.discrete
    levels = 2 if spec.binarize != "none" or spec.kind == "binary" else spec.levels
    known = levels is not None and (discrete or spec.dequantize == "uniform")
    bits = (
        bits_per_dimension(nats, int(np.prod(spec.shape)), levels=levels or 2, density=not discrete) if known else None
    )
    said = "" if bits is None else f", {bits:.4f} bits per dimension of {levels} levels"
    return f"log p(x) >= {nats:.2f} nats{said} ({summary['protocol']})"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; with --out, keep the runs and draw the picture."""
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
    flags, flags.words = (parsed := parser.parse_known_args(arguments))[0], parsed[1]
    if min(flags.samples, flags.train) < SHOWN:
        parser.error(f"--samples and --train: expected at least {SHOWN}")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = flags.out or pathlib.Path(temporary)
            run, summary = trained(flags, folder / "0")
            words = (f"--model={flags.model}", *flags.words)
            dataset = experiment.assemble(parse(words)).dataset
            if not flags.skip_variants:
                print(codebooks(flags, folder, summary), end="\n\n")
            table, grid = prior(flags, run, summary, dataset)
            print(table)
    except UserError as error:
        print(f"codebooks: {error}", file=sys.stderr)
        return 2
    if flags.out:
        plots.save(grid, flags.out / "nearest.png")
        print(f"\npicture: {flags.out / 'nearest.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
