"""The experiments of Auto-Encoding Variational Bayes (Kingma & Welling 2014), scaled by ``--points``.

``python experiments/aevb.py --figure=2 --dataset=mnist --latents=3,5,10,20,200`` draws the lower bound against training points, of
AEVB (model ``vae``) and of ``wake_sleep``, on training and validation data. ``--figure=3`` draws the marginal likelihood of
training and validation examples, estimated by Hamiltonian chains (appendix D), of both and of Monte Carlo EM (``mcem``), for each
number of ``--examples``; ``--figure=4`` the manifold of two latents. Networks are those of section 5: one hidden layer of tanh, 500
units for figure 2 (200 for Frey faces), 100 for figure 3; batches of 100, Adagrad. Of several learning rates figures 2 and 3 take
the one whose training bound is highest after 300 steps, as the paper does. Frey faces have Gaussian likelihoods whose means
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
from vaex.cli.scripts import add_data_flags, folders, numbers, whole_numbers
from vaex.data import Dataset
from vaex.errors import UserError
from vaex.evaluation.annealing import density_fit_log_likelihood
from vaex.models.autoencoders import mcem
from vaex.plots.records import Curves, FigureRecord, Grid
from vaex.results.compare import aligned

BATCH = 100
PLACES = 12  # on a curve
FIRST = 300  # steps after which the learning rate is chosen
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
        "learning_rate": flags.learning_rate[0],
        "evaluate": False,
        "progress": False,
        "seeds": 0,
        **(BOUNDED if faces else {}),
    }


def chosen_rate(model: str, dataset: Dataset, flags: argparse.Namespace, given: Mapping[str, Any]) -> float:
    """Return the learning rate with the highest training bound after the first steps, or the only one that was given."""
    rates = flags.learning_rate
    if len(rates) == 1:
        return rates[0]
    run = vaex.train(model, dataset, **{**given, "learning_rate": rates, "steps": FIRST, "log_every": FIRST // 3})
    bounds = [row["elbo"] for row in run.rows() if "elbo" in row][-1]  # [rates], means over the last third
    return rates[int(np.nanargmax(bounds))]


class Result(NamedTuple):
    """Figure, table, and sentences on what the paper concludes."""

    figure: FigureRecord
    table: list[list[str]]
    findings: tuple[str, ...] = ()


def bounds_of_training(flags: argparse.Namespace, dataset: Dataset) -> Result:
    """Figure 2: the bound against training points seen, a panel for each number of latents.

    Bounds below AEVB's last one by more than its distance from zero are gaps: at first the recognition network of wake-sleep, which
    is trained on dreams alone, may be far off.
    """
    steps = max(PLACES, flags.points // BATCH)
    every = steps // PLACES
    panels, table = [], [["latents", "method", "learning rate", "training bound", "validation bound"]]
    above, final = Above(), {}
    for latents in flags.latents:
        lines: dict[str, np.ndarray] = {}
        for method in ("AEVB", "wake-sleep"):
            given = options(flags, 500) | {"latent_dim": latents}
            rate = given["learning_rate"] = chosen_rate(METHODS[method], dataset, flags, given)
            run = vaex.train(
                METHODS[method], dataset, steps=every * PLACES, log_every=every, validate_every=every, **given
            )
            lines[f"{method}, training"], lines[f"{method}, validation"] = _curves(run, every)
            last = [f"{lines[f'{method}, {split}'][-1]:.2f}" for split in ("training", "validation")]
            table.append([str(latents), method, f"{rate:g}", *last])
        above.count(lines)
        final[latents] = Final(float(lines["AEVB, training"][-1]), float(lines["AEVB, validation"][-1]))
        lines = above_floor(lines, final[latents].validation)
        x = np.log10(BATCH * every * np.arange(1, PLACES + 1))
        panels.append(Curves(x, lines, "log10 of training points seen", "lower bound (nats)", f"{latents} latents"))
    return Result(panels, table, (str(above), *superfluous_latents(final)))


def above_floor(lines: Mapping[str, np.ndarray], last: float) -> dict[str, np.ndarray]:
    """Return the curves with NaN where they are below ``last`` by more than its distance from zero."""
    return {name: np.where(line < last - abs(last), np.nan, line) for name, line in lines.items()}


class Final(NamedTuple):
    """AEVB's last bounds, in nats."""

    training: float
    validation: float


def superfluous_latents(final: Mapping[int, Final]) -> tuple[str, ...]:
    """Return whether training exceeds validation by no more with the most latents than with fewer; () for one number of them."""
    if len(final) < 2:
        return ()
    gaps = {latents: bounds.training - bounds.validation for latents, bounds in final.items()}
    most = max(gaps)
    fewer = max(gap for latents, gap in gaps.items() if latents < most)
    best = max(final, key=lambda latents: final[latents].validation)
    listed = ", ".join(f"{gap:.2f} with {latents}" for latents, gap in gaps.items())
    return (
        f"Superfluous latents do not overfit: {held(gaps[most] <= fewer)}; AEVB's training bound less its validation bound is "
        f"{listed} latents; the best validation bound, {final[best].validation:.2f}, has {best}",
    )


def held(finding: bool) -> str:
    """Return the word by which a finding of the paper is reported."""
    return "held" if finding else "not held"


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
        throughout = held(self.above == self.places)
        return f"AEVB above wake-sleep throughout: {throughout}, at {self.above} of {self.places} places of the curves"


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
    panels, table = [], [["training examples", "method", "learning rate", "points seen", "training", "validation"]]
    above = Above()
    for count in flags.examples:
        part = dataset if count is None else few(dataset, count)
        lines: dict[str, np.ndarray] = {}
        for method, model in METHODS.items():
            given = options(flags, 100) | {"latent_dim": flags.latents[0]}
            rate = given["learning_rate"] = chosen_rate(model, part, flags, given)
            run = None
            values = []
            for step in map(int, steps):
                run = (
                    vaex.train(model, part, steps=step, **given)
                    if run is None
                    else run.continue_to(step, part, progress=False)
                )
                values.append(_estimate(flags, run, part))
                cells = [f"{value:.2f}" for value in values[-1]]
                table.append([str(count or "all"), method, f"{rate:g}", str(step * BATCH), *cells])
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
        f"MCEM cannot be run online: {held(seen < gradients * size)}; it takes {gradients} gradients of the decoder for a point, "
        f"AEVB 1, and for the gradients of AEVB's {seen:,} points it sees {seen // gradients:,}, "
        f"{seen / gradients / size:.2g} passes through the {size:,} training examples",
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
    parser.add_argument(
        "--learning_rate",
        type=numbers,
        default=[0.02],
        help="several: the best after 300 steps, in figures 2 and 3 (default: 0.02)",
    )
    parser.add_argument("--optimizer", choices=tuple(OPTIMIZERS), default="adagrad", help="(default: %(default)s)")
    add_data_flags(parser)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder (default: %(default)s)"
    )
    flags = parser.parse_args(arguments)
    if len(flags.learning_rate) > 1 and flags.figure not in ("2", "3"):
        parser.error(f"--learning_rate: figure {flags.figure} takes one; figures 2 and 3 choose among several")
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
