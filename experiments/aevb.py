"""The experiments of Auto-Encoding Variational Bayes (Kingma & Welling 2014), scaled by ``--points``.

``python experiments/aevb.py --figure=2 --dataset=mnist --latents=3,5,10,20,200`` draws the lower bound against training points, of
AEVB (model ``vae``) and of ``wake_sleep``, on training and validation data. ``--figure=3`` draws the marginal likelihood of
training and validation examples, estimated by Hamiltonian chains (appendix D), of both and of Monte Carlo EM (``mcem``), for each
number of ``--examples``; ``--figure=4`` the manifold of two latents. Networks are those of section 5: one hidden layer of tanh, 500
units for figure 2 (200 for Frey faces), 100 for figure 3; batches of 100, Adagrad. Frey faces have Gaussian likelihoods whose means
are bounded. ``--figure=F`` fits a posterior over the decoder's weights too (appendix F), on few digits.

Below the table stands what the paper concludes, and whether it holds here. Frey faces and the files of MNIST are your own:
``--dataset=freyfaces --manual_dir=FOLDER``.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from lessons import full_bayes
from samples import few
from scipy import stats

import vaex
from vaex import plots
from vaex.api.likelihood_bounds import model_inputs
from vaex.api.run import Run
from vaex.cli.scripts import add_data_flags, folders, whole_numbers
from vaex.data import Dataset
from vaex.errors import UserError
from vaex.evaluation.annealing import density_fit_log_likelihood
from vaex.models.autoencoders import mcem
from vaex.plots.records import Curves, FigureRecord, Grid
from vaex.results.compare import aligned

BATCH = 100
PLACES = 12  # on a curve
METHODS = {"AEVB": "vae", "wake-sleep": "wake_sleep", "MCEM": "mcem"}
OPTIMIZERS: dict[str, Any] = {"adagrad": optax.adagrad, "adam": "adam"}
SIDE = 12  # of the manifold
BOUNDED = {"likelihood": "gaussian", "likelihood_scale": "per_pixel", "mean": "bounded"}


def options(flags: argparse.Namespace, hidden: int) -> dict[str, Any]:
    """What all the models have."""
    faces = pathlib.Path(flags.dataset).stem == "freyfaces"
    return {
        "hidden": (flags.hidden or (200 if faces and flags.figure != "3" else hidden),),
        "activation": "tanh",
        "batch_size": BATCH,
        "optimizer": OPTIMIZERS[flags.optimizer],
        "learning_rate": flags.learning_rate,
        "evaluate": False,
        "progress": False,
        "seeds": 0,
        **(BOUNDED if faces else {}),
    }


class Result(NamedTuple):
    """Figure, table, and sentences on what the paper concludes."""

    figure: FigureRecord
    table: list[list[str]]
    findings: tuple[str, ...] = ()


def bounds_of_training(flags: argparse.Namespace, dataset: Dataset) -> Result:
    """Figure 2: the bound against training points seen, a panel for each number of latents.

    Bounds below twice AEVB's last one are gaps: a recognition network that knows dreams alone may be far off at first.
    """
    steps = max(PLACES, flags.points // BATCH)
    every = steps // PLACES
    panels, table = [], [["latents", "method", "training bound", "validation bound"]]
    above, final = Above(), {}
    for latents in flags.latents:
        lines: dict[str, np.ndarray] = {}
        for method in ("AEVB", "wake-sleep"):
            run = vaex.train(
                METHODS[method],
                dataset,
                latent_dim=latents,
                steps=every * PLACES,
                log_every=every,
                validate_every=every,
                **options(flags, 500),
            )
            lines[f"{method}, training"], lines[f"{method}, validation"] = _curves(run, every)
            last = [f"{lines[f'{method}, {split}'][-1]:.2f}" for split in ("training", "validation")]
            table.append([str(latents), method, *last])
        above.count(lines)
        final[latents] = float(lines["AEVB, validation"][-1])
        floor = 2 * lines["AEVB, validation"][-1]
        lines = {name: np.where(line < floor, np.nan, line) for name, line in lines.items()}
        x = np.log10(BATCH * every * np.arange(1, PLACES + 1))
        panels.append(Curves(x, lines, "log10 of training points seen", "lower bound (nats)", f"{latents} latents"))
    best, most = max(final, key=lambda latents: final[latents]), max(final)
    findings = (
        str(above),
        f"AEVB's best validation bound is {final[best]:.2f}, with {best} latents; with {most} it is {final[most]:.2f}",
    )
    return Result(panels, table, findings)


class Above:
    """Counts the places of curves where AEVB is above wake-sleep."""

    def __init__(self) -> None:
        self.places = self.above = 0

    def count(self, lines: Mapping[str, np.ndarray]) -> None:
        for split in ("training", "validation"):
            difference = lines[f"AEVB, {split}"] - lines[f"wake-sleep, {split}"]
            self.places += len(difference)
            self.above += int(np.sum(difference > 0))

    def __str__(self) -> str:
        return f"AEVB is above wake-sleep at {self.above} of {self.places} places of the curves"


def _curves(run: Run, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and validation bounds at each place."""
    steps = [every * (index + 1) for index in range(PLACES)]

    def curve(metric: str) -> np.ndarray:
        found = {row["step"]: row[metric][0] for row in run.rows() if metric in row}
        return np.array([found.get(step, np.nan) for step in steps], np.float64)

    return curve("elbo"), curve("validation_elbo")


def marginal_likelihoods(flags: argparse.Namespace, dataset: Dataset) -> Result:
    """Figure 3: the estimated marginal likelihood against training points, a panel for each number of training examples."""
    steps = np.unique(np.geomspace(10, max(11, flags.points // BATCH), flags.places).astype(int))
    panels, table = [], [["training examples", "method", "points seen", "training", "validation"]]
    above = Above()
    for count in flags.examples:
        part = dataset if count is None else few(dataset, count)
        lines: dict[str, np.ndarray] = {}
        for method, model in METHODS.items():
            run = None
            values = []
            for step in map(int, steps):
                run = (
                    vaex.train(model, part, latent_dim=flags.latents[0], steps=step, **options(flags, 100))
                    if run is None
                    else run.continue_to(step, part, progress=False)
                )
                values.append(_estimate(flags, run, part))
                cells = [f"{value:.2f}" for value in values[-1]]
                table.append([str(count or "all"), method, str(step * BATCH), *cells])
            for name, curve in zip(("training", "validation"), np.array(values).T, strict=True):
                lines[f"{method}, {name}"] = curve
        above.count(lines)
        title = f"{count or 'All'} training examples"
        panels.append(Curves(np.log10(BATCH * steps), lines, "log10 of training points seen", "nats", title))
    chains = mcem.Config()
    gradients = chains.temperatures * chains.leapfrog_steps + chains.updates
    seen, size = int(steps[-1]) * BATCH, len(dataset.splits["train"]["x"])
    findings = (
        str(above),
        f"MCEM takes {gradients} gradients of the decoder for a point, AEVB 1: for the gradients of AEVB's {seen:,} points it sees "
        f"{seen // gradients:,}, {seen / gradients / size:.2g} passes through the {size:,} training examples",
    )
    return Result(panels, table, findings)


def _estimate(flags: argparse.Namespace, run: Run, dataset: Dataset) -> np.ndarray:
    """Means of log p(x) over a few training and validation examples, by Hamiltonian chains and a Gaussian fitted to them."""
    member = run[0]
    values = density_fit_log_likelihood(
        jax.random.key(2),
        lambda z: member.recipe.model.decode(member.variables, member.hparams, z, {}),
        np.concatenate([model_inputs(run, dataset, split, flags.estimated) for split in ("train", "validation")]),
        flags.latents[0],
        chains=50,
        temperatures=50,
        transitions=20,
    )
    return np.asarray(values, np.float64).reshape(2, -1).mean(axis=1)


def manifold(flags: argparse.Namespace, dataset: Dataset) -> Result:
    """Figure 4: means of p(x|z) at the quantiles of two latents."""
    run = vaex.train("vae", dataset, latent_dim=2, steps=max(1, flags.points // BATCH), **options(flags, 500))
    places = stats.norm.ppf((np.arange(SIDE) + 0.5) / SIDE)
    z = np.stack(np.meshgrid(places, places[::-1]), axis=-1).reshape(-1, 2).astype(np.float32)
    means = np.asarray(run[0].decode(z).mean)
    table = [["values of the means", "least", "largest", "outside [0, 1]"]]
    outside = np.mean((means < 0) | (means > 1))
    table.append([pathlib.Path(flags.dataset).stem, f"{means.min():.3f}", f"{means.max():.3f}", f"{outside:.3f}"])
    images = np.clip(means, 0, 1).reshape(SIDE, SIDE, *means.shape[1:])
    return Result(Grid(images, title=f"Manifold of {pathlib.Path(flags.dataset).stem}"), table)


def weights_too(flags: argparse.Namespace, dataset: Dataset) -> Result:
    """Appendix F: a posterior over the decoder's weights, beside a point."""
    return Result(*full_bayes.full_bayes(dataset, steps=max(1, flags.points // BATCH), latents=flags.latents[0]))


FIGURES: Mapping[str, Callable[[argparse.Namespace, Dataset], Result]] = {
    "2": bounds_of_training,
    "3": marginal_likelihoods,
    "4": manifold,
    "F": weights_too,
}


def _counts(text: str) -> list[int | None]:
    return [None if part == "all" else int(part) for part in text.split(",")]


def main(arguments: list[str] | None = None) -> int:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", choices=tuple(FIGURES), default="2", help="(default: %(default)s)")
    parser.add_argument("--dataset", default="digits", help="(default: %(default)s)")
    parser.add_argument(
        "--latents", type=whole_numbers, default=[3], help="numbers of latents; figure 3 takes the first (default: 3)"
    )
    parser.add_argument("--points", type=int, default=100_000, help="training points seen (default: %(default)s)")
    parser.add_argument("--examples", type=_counts, default=[1000, None], help="of figure 3 (default: 1000,all)")
    parser.add_argument(
        "--estimated", type=int, default=20, help="examples whose likelihood is estimated (default: %(default)s)"
    )
    parser.add_argument("--places", type=int, default=4, help="on a curve of figure 3 (default: %(default)s)")
    parser.add_argument("--hidden", type=int, help="units (default: those of the paper)")
    parser.add_argument("--learning_rate", type=float, default=0.02, help="(default: %(default)s)")
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adagrad", help="(default: %(default)s)")
    add_data_flags(parser)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder (default: %(default)s)"
    )
    flags = parser.parse_args(arguments)
    try:
        result = FIGURES[flags.figure](flags, vaex.Dataset.load(flags.dataset, **folders(flags)))
    except UserError as error:
        print(f"aevb: {error}", file=sys.stderr)
        return error.exit_code
    print(aligned(result.table))
    for sentence in result.findings:
        print(sentence)
    print(plots.save(result.figure, flags.out / f"aevb_{flags.figure}_{pathlib.Path(flags.dataset).stem}.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
