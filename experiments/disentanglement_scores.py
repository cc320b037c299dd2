"""Disentanglement scores of populations: beta-VAEs at several beta, with beta-TC-VAE and FactorVAE beside them.

Trains on sprites, each setting with several seeds as members of one population, scores every member by the metrics of
vaex.evaluation.disentanglement on images whose factors are drawn uniformly, and prints a table: means over seeds ± their standard
errors, and how far each method is from the best beta_vae. The populations' UDR, which knows no factors, stands beside the scores.

Results are kept in --out: the same command continues where it was stopped, and once finished prints its results again. Any flag
that is not listed goes to all runs, such as --network=conv.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import vaex
from vaex import plots
from vaex.cli.parse import read_options
from vaex.data.synthetic.sprites import sprites
from vaex.errors import UserError
from vaex.evaluation.disentanglement import PROTOCOLS, unsupervised_disentanglement_ranking
from vaex.evaluation.likelihood import estimate
from vaex.files import read_json, write_json
from vaex.plots.records import Bars
from vaex.results.compare import aligned, cell

STRENGTHS = {"beta_vae": "beta", "beta_tc_vae": "beta", "factor_vae": "gamma"}
TERMS = ("reconstruction", "kl")  # nats, of the run's own evaluation
RANKED = 2000  # images of which UDR compares the codes


class Setting(NamedTuple):
    """A method at one strength: ``values``, name -> [seeds]."""

    model: str
    strength: str
    values: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """Return a name such as ``beta_tc_vae beta=4``."""
        return f"{self.model} {STRENGTHS[self.model]}={self.strength}"


def train(flags: argparse.Namespace, model: str, strengths: str) -> pathlib.Path:
    """Train a population over ``strengths``, as ``--beta`` takes them, and seeds, unless it is finished; return its directory.

    Raises: UserError for flags that do not fit.
    """
    directory = flags.out / model
    varied = [f"--{STRENGTHS[model]}={strengths}", f"--seeds={flags.seeds}", f"--hidden={flags.hidden}"]
    options: dict[str, Any] = {"figures": False, "eval_images": 1, "eval_samples": 1, **read_options(model, varied)}
    options |= {name: getattr(flags, name) for name in ("steps", "batch_size", "latent_dim", "image_size")}
    vaex.train(model, "sprites", out=directory, evaluate=True, **{**options, **read_options(model, flags.run_flags)})
    return directory


def member_scores(flags: argparse.Namespace, directory: pathlib.Path) -> list[dict[str, float]]:
    """Return the scores of each member of a finished run, kept in a file beside it."""
    made_from = {"steps": read_json(directory / "summary.json")["steps"], "examples": flags.examples}
    path = directory.with_suffix(".json")
    if path.exists() and (kept := read_json(path))["made_from"] == made_from:
        return kept["members"]
    print(f"[{time.strftime('%H:%M:%S')}] scoring {directory}", flush=True)
    run = vaex.load(directory)
    scores = run.score(["disentanglement"], examples=flags.examples, parts=2)
    members = [{name: of_parts.mean for name, of_parts in row.items()} for row in scores.values]
    write_json(path, {"made_from": made_from, "members": members})
    return members


def settings_of(flags: argparse.Namespace, directory: pathlib.Path) -> list[Setting]:
    """Group a run's members by strength, with their scores, the terms of their bounds, and their UDR among the seeds."""
    summary, scores = read_json(directory / "summary.json"), member_scores(flags, directory)
    model, groups = summary["model"], {}
    for index, member in enumerate(summary["members"]):
        groups.setdefault(member["hparams"][STRENGTHS[model]], []).append(index)
    run, source = vaex.load(directory), sprites(flags.image_size)
    images = np.asarray(source.observe(source.sample_factors(jax.random.key(0), RANKED)))
    settings = []
    for strength, rows in groups.items():
        values = {name: np.array([scores[row][name] for row in rows]) for name in PROTOCOLS}
        values |= {name: np.array([summary["members"][row][name] for row in rows]) for name in TERMS}
        if len(rows) > 1:
            posteriors = [run[row].encode(images) for row in rows]
            means, variances = ([np.asarray(getattr(q, name)) for q in posteriors] for name in ("mean", "variance"))
            values["udr"] = unsupervised_disentanglement_ranking(means, variances)
        settings.append(Setting(model, strength, values))
    return settings


def table(settings: list[Setting]) -> str:
    """Return a table with a row for each score and a column for each setting: means over seeds ± standard errors."""
    lines = [["", *(setting.name for setting in settings)]]
    for name in dict.fromkeys(name for setting in settings for name in setting.values):
        cells = [estimate(setting.values[name])[:2] if name in setting.values else (None, None) for setting in settings]
        lines.append([name, *(cell(mean, error, digits=3) for mean, error in cells)])
    return aligned(lines)


def sentences(settings: list[Setting], names: tuple[str, ...]) -> list[str]:
    """Say of each score how every other method stands to the beta_vae that has most of it."""
    lines = []
    for name in names:
        sweep = [setting for setting in settings if setting.model == "beta_vae"]
        best = max(sweep, key=lambda setting: float(np.mean(setting.values[name])))
        reference = estimate(best.values[name])
        for setting in settings:
            if setting.model == "beta_vae":
                continue
            mean, error = estimate(setting.values[name])[:2]
            difference, errors = mean - reference.mean, math.hypot(error, reference.standard_error)
            verdict = (
                "above" if difference > 2 * errors else "below" if difference < -2 * errors else "no different from"
            )
            lines.append(
                f"{name}: {setting.name} is {verdict} the best beta-VAE ({best.name}): {difference:+.3f} ± {errors:.3f}"
            )
    return lines


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the flags."""

    class Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
        """Keeps paragraphs as they are written, and shows defaults."""

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Formatter, allow_abbrev=False)
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/disentanglement_scores"), help="folder of all results"
    )
    parser.add_argument("--betas", default="1,2,4,8", help="of beta_vae; 1 is the VAE")
    parser.add_argument("--tc_betas", default="6", help="of beta_tc_vae: weight of the total correlation")
    parser.add_argument("--gammas", default="20", help="of factor_vae: weight of the critic's estimate")
    parser.add_argument("--seeds", default="0:5", help="as 0:3 (0 to 2) or 1,5")
    parser.add_argument("--steps", type=int, default=6000, help="of each member")
    parser.add_argument("--batch_size", type=int, default=64, help="images a step")
    parser.add_argument("--hidden", default="256x256", help="widths of the encoder's and the decoder's hidden layers")
    parser.add_argument("--latent_dim", type=int, default=10, help="number of latents")
    parser.add_argument("--image_size", type=int, default=32, help="side of the images, pixels")
    parser.add_argument("--examples", type=int, default=6000, help="images by which a member is scored, in two halves")
    flags, flags.run_flags = parser.parse_known_args(arguments)
    if flags.examples < 400 or flags.image_size < 1:
        parser.error("--examples must be at least 400, --image_size at least 1")
    return flags


def main(arguments: list[str] | None = None) -> int:
    """Train, score, print and draw; return 2 for invalid input."""
    flags = parse(arguments)
    flags.out = flags.out.expanduser()
    try:
        runs = [("beta_vae", flags.betas), ("beta_tc_vae", flags.tc_betas), ("factor_vae", flags.gammas)]
        directories = [train(flags, model, strengths) for model, strengths in runs]
        settings = [setting for directory in directories for setting in settings_of(flags, directory)]
    except UserError as error:
        print(f"disentanglement_scores: {error}", file=sys.stderr)
        return 2
    path = flags.out / "scores.json"
    content = {setting.name: {name: of.tolist() for name, of in setting.values.items()} for setting in settings}
    write_json(
        path, {"steps": flags.steps, "examples": flags.examples, "protocol": dict(PROTOCOLS), "settings": content}
    )
    panels = []
    for name in (*PROTOCOLS, "udr"):
        known = [setting for setting in settings if name in setting.values]
        means, errors = (
            zip(*(estimate(setting.values[name])[:2] for setting in known), strict=True) if known else ((), ())
        )
        labels = tuple(f"{setting.model.removesuffix('_vae')} {setting.strength}" for setting in known)
        if known:
            panels.append(Bars(means, labels, y_label=name.replace("_", " "), errors=errors))
    figure = plots.save(panels, flags.out / "scores.png")
    print(f"\nsprites {flags.image_size}x{flags.image_size}, {flags.steps} steps; means over seeds ± standard errors\n")
    print(table(settings))
    print("\n".join(["", *sentences(settings, ("factor_vae", "mig", "sap", "dci_disentanglement"))]))
    print(f"\nwritten: {path}, {figure}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
