"""Few images: a model of other data trained on, beside a model trained from scratch.

``python experiments/fine_tuning.py --manual_dir=FILES`` trains a VAE on Fashion-MNIST and continues it on 200 images of MNIST;
beside that it trains the same model on the same images from scratch. 200 further images choose the step at which each ends. A seed
is a model of Fashion-MNIST, a choice of 400 images, an initialisation and noise. The table has the importance-weighted
log-likelihood of test images, nats, of both and of the model of Fashion-MNIST as it is, with paired differences over seeds.

Images are binarised anew at each step, the test images once. FILES is a folder that holds fashion_mnist/ and mnist/, each with its
four original files. Runs are kept in --out: the same command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

import numpy as np

import vaex
from vaex import plots
from vaex.configuration.grammar import read_seeds
from vaex.data.spec import Dataset
from vaex.errors import UserError
from vaex.evaluation.likelihood import estimate
from vaex.plots.records import Grid
from vaex.results.compare import aligned, cell

SCRATCH, TUNED, SOURCE = "from scratch", "fine-tuned", "the source model as it is"
NETWORK: dict[str, Any] = {"hidden": (300, 300), "latent_dim": 20, "binarize": "dynamic", "likelihood": "bernoulli"}
SHOWN = 10


def load(flags: argparse.Namespace, name: str) -> Dataset:
    """Return a data set by name, from its folder in --manual_dir where that is given."""
    return vaex.Dataset.load(name, manual_dir=None if flags.manual_dir is None else str(flags.manual_dir / name))


def few_images(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Return ``count`` training images chosen at random, as many others for validation, and all test images."""
    x = dataset.splits["train"]["x"]
    if len(x) < 2 * count:
        raise UserError(f"--images={count}: expected at most {len(x) // 2}, half of the training images")
    rows = np.random.default_rng(seed).permutation(len(x))[: 2 * count]
    splits = {"x_train": x[rows[:count]], "x_validation": x[rows[count:]], "x_test": dataset.splits["test"]["x"]}
    few = vaex.Dataset.from_arrays(splits, name=f"{dataset.spec.name}_{count}_images_{seed}")
    return few._replace(spec=few.spec._replace(levels=dataset.spec.levels))


def runs_of(flags: argparse.Namespace, source: vaex.Run, target: Dataset, seed: int) -> dict[str, vaex.Run]:
    """Train on few images, from scratch and from the member of the source run that has this seed."""
    data = few_images(target, flags.images, seed)
    shared: dict[str, Any] = {
        "steps": flags.steps, "batch_size": min(50, flags.images), "seeds": seed, "validate_every": 100, "keep": "best:elbo",
        "patience": 10, "eval_images": flags.eval_images, "eval_samples": flags.eval_samples, "figures": False,
        "evaluate": True, **NETWORK,
    }  # fmt: skip
    member = read_seeds(flags.seeds).index(seed)
    out = flags.out / f"{flags.target}_{flags.images}"
    return {
        SCRATCH: vaex.train("vae", data, out=out / f"scratch_{seed}", **shared),
        TUNED: vaex.train(
            "vae",
            data,
            out=out / f"tuned_{flags.tuned_learning_rate:g}_{seed}",
            init_from=f"{source.directory}:{member}",
            learning_rate=flags.tuned_learning_rate,
            **shared,
        ),
    }


def log_likelihood(summary: dict[str, Any], member: int = 0) -> float:
    """Return the mean log-likelihood of the test images, nats."""
    return summary["members"][member]["log_likelihood"]


def measure(flags: argparse.Namespace) -> tuple[str, Grid]:
    """Train, and return the table and a figure of samples from the first seed's models."""
    import jax

    seeds, target = read_seeds(flags.seeds), load(flags, flags.target)
    few_images(target, flags.images, seeds[0])  # refused before anything is trained
    source = vaex.train(
        "vae", load(flags, flags.source), steps=flags.source_steps, batch_size=100, seeds=seeds, figures=False,
        out=flags.out / f"{flags.source}_{flags.source_steps}", **NETWORK,
    )  # fmt: skip
    as_it_is = source.evaluate(
        few_images(target, flags.images, seeds[0]), eval_images=flags.eval_images, eval_samples=flags.eval_samples
    )
    runs = {seed: runs_of(flags, source, target, seed) for seed in seeds}
    values = {SOURCE: np.array([log_likelihood(as_it_is, index) for index in range(len(seeds))])}
    rows = [["model", "log-likelihood, nats", "minus from scratch", "steps"]]
    for name in (SCRATCH, TUNED):
        values[name] = np.array([log_likelihood(runs[seed][name].summary or {}) for seed in seeds])
    for name, numbers in values.items():
        difference = "" if name == SCRATCH else cell(*estimate(numbers - values[SCRATCH])[:2])
        steps = "" if name == SOURCE else ", ".join(str(best_step(runs[seed][name])) for seed in seeds)
        rows.append([name, cell(*estimate(numbers)[:2]), difference, steps])
    models = {SOURCE: source[0], **runs[seeds[0]]}
    samples = np.stack([np.asarray(model.sample(jax.random.key(0), SHOWN)) for model in models.values()])
    images = np.asarray(
        vaex.data.intensities(target.spec, few_images(target, flags.images, seeds[0]).splits["train"]["x"][:SHOWN])
    )
    title = f"Samples after {flags.images} images of {flags.target}"
    return aligned(rows), Grid(np.concatenate([images[None], samples]), ("training images", *models), title=title)


def best_step(run: vaex.Run) -> int:
    """Return the step with the largest bound on the validation images, at which the run ends."""
    rows = [row for row in run.rows() if "validation_elbo" in row]
    return max(rows, key=lambda row: row["validation_elbo"][0])["step"]


def main(arguments: list[str] | None = None) -> int:
    """Print the table and draw the figure; return 2 for invalid input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="fashion_mnist", help="data set of the first model (default: %(default)s)")
    parser.add_argument("--target", default="mnist", help="data set of the few images (default: %(default)s)")
    parser.add_argument("--images", type=int, default=200, help="of the target to train on (default: %(default)s)")
    parser.add_argument(
        "--manual_dir", type=pathlib.Path, help="folder of folders of original files, named as the data sets"
    )
    parser.add_argument("--source_steps", type=int, default=15_000, help="of the first model (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=10_000, help="on the few images, at most (default: %(default)s)")
    parser.add_argument(
        "--tuned_learning_rate", type=float, default=0.001, help="of the model that is continued (default: %(default)s)"
    )
    parser.add_argument("--seeds", default="0:3", help="as 0:3 (0 to 2) or 1,5 (default: %(default)s)")
    parser.add_argument("--eval_images", type=int, default=1000, help="test images (default: %(default)s)")
    parser.add_argument("--eval_samples", type=int, default=500, help="importance samples (default: %(default)s)")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/fine_tuning"), help="(default: %(default)s)"
    )
    flags = parser.parse_args(arguments)
    try:
        table, grid = measure(flags)
    except UserError as error:
        print(f"fine_tuning: {error}", file=sys.stderr)
        return 2
    print(table)
    print(plots.save(grid, flags.out / f"{flags.target}_{flags.images}.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
