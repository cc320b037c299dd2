"""Trained runs scored by published metrics: ``python experiments/evaluate.py RUN...``, a table for each run.

disentanglement: of posterior means, for data with known factors. samples: against examples of the split in a feature space, with
training examples in their place as the floor. likelihood: log p(x) by importance sampling and annealing, and from both sides for
examples that the model simulates. rate_distortion: the two terms of the ELBO, and the parts of the rate. --out keeps the numbers as
JSON, and a figure. --page writes an HTML file in which the decoder runs, without a network; without --metrics nothing else is done.
"""

import argparse
import pathlib
import sys

import numpy as np

import vaex
from vaex import plots
from vaex.api.scores import METRICS, Choices
from vaex.cli.scripts import add_run_flags, folders
from vaex.configuration.grammar import read_names
from vaex.errors import UserError
from vaex.samplers import KINDS

LIKELIHOOD = {
    "images": "examples of the split, and simulated ones",
    "importance_samples": "K, of each example",
    "temperatures": "of annealing",
    "chains": "of annealing, for each example",
}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run directories")
    parser.add_argument(
        "--metrics", help=f"joined by commas: {', '.join(METRICS)} (default: samples, and disentanglement with factors)"
    )
    parser.add_argument(
        "--split", default="test", choices=["test", "validation"], help="whose examples (default: test)"
    )
    parser.add_argument(
        "--factors", metavar="FILE.npy", help="integers [n, f] of all examples of the split, where the data has none"
    )
    parser.add_argument(
        "--features",
        default="pca:50",
        help="pixels, pca:D, classifier (trained on the run's labels) or module:function (default: pca:50)",
    )
    parser.add_argument("--examples", type=int, default=10_000, help="of the split, at most (default: 10000)")
    parser.add_argument("--parts", type=int, default=4, help="that standard errors are over (default: 4)")
    parser.add_argument(
        "--show",
        default="mean",
        choices=["mean", "sample"],
        help="samples are means of p(x|z), or draws (default: mean)",
    )
    parser.add_argument(
        "--samplers",
        default="prior",
        help="that samples are drawn by, joined by commas, a row for each: prior, and fitted to codes of the training examples, "
        f"{', '.join(KINDS)}, some with a number as in gmm:10 (default: prior)",
    )
    defaults = Choices()
    for flag, text in LIKELIHOOD.items():
        default = getattr(defaults, flag)
        parser.add_argument(f"--{flag}", type=int, default=default, help=f"likelihood: {text} (default: {default})")
    add_run_flags(parser)
    parser.add_argument("--out", metavar="DIR", type=pathlib.Path, help="folder for a .json and a .png of each run")
    parser.add_argument("--page", action="store_true", help="write page.html into the run's folder, or into --out")
    parser.add_argument("--member", type=int, help="of a population, whose page it is, counted from 0")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Score the runs; return 2 for what a user can fix."""
    given = parse(arguments)
    try:
        factors = None if given.factors is None else _read(given.factors)
        for name in given.runs:
            run = vaex.load(name, trust=given.trust)
            print(f"{name}: {run!r}", flush=True)
            if given.page:
                _write_page(run, name, given)
                if given.metrics is None:
                    continue
            scores = run.score(
                None if given.metrics is None else read_names(given.metrics),
                split=given.split,
                factors=factors,
                features=given.features,
                examples=given.examples,
                parts=given.parts,
                show=given.show,
                samplers=read_names(given.samplers),
                **{flag: getattr(given, flag) for flag in LIKELIHOOD},
                **folders(given),
            )
            print("\n".join([scores.table(), *scores.notes(), ""]), flush=True)
            if given.out is not None:
                given.out.mkdir(parents=True, exist_ok=True)
                stem = pathlib.Path(name).resolve().name
                written = scores.save(given.out / f"{stem}.json")
                print(f"written: {written}, {plots.save(scores.figure(), given.out / f'{stem}.png')}\n")
    except UserError as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    return 0


def _write_page(run: vaex.Run, name: str, given: argparse.Namespace) -> None:
    folder = pathlib.Path(name)
    path = folder / "page.html" if given.out is None else given.out / f"{folder.resolve().name}.html"
    places = {"data_dir": given.data_dir, "manual_dir": given.manual_dir}
    path = run.page(path, given.member, split=given.split, **places)
    print(f"written: {path}, {path.stat().st_size / 1e6:.1f} MB; open it in a browser\n", flush=True)


def _read(path: str) -> np.ndarray:
    try:
        return np.load(pathlib.Path(path).expanduser(), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--factors={path}: can't be read ({error}); give an integer array [n, f] as .npy") from None


if __name__ == "__main__":
    sys.exit(main())
