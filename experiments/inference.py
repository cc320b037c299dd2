"""Variational inference beside the truth: ``python experiments/inference.py --example=bimodal`` draws a figure and prints a table.

``bimodal``: Gaussians under reverse and forward KL, Renyi's bound and the chi bound, and mixtures, on two modes of a line and of a
plane; the truth by a grid. ``eight_schools``: Gaussian families on Rubin's hierarchical model; the truth is a grid over its two
hyperparameters. ``banana``, ``funnel``: hard shapes, beside the No-U-Turn sampler. ``logistic_regression``: posteriors of a
classifier's weights, beside the sampler; generative against discriminative likelihood. ``bayesian_network``: weight uncertainty of
a small Flax network. ``gaussian_mixture``: evidence by number of components. ``ising``: mean field beside enumeration.
``hidden_variables``: every term of the ELBO by quadrature. ``jensen``: the gap as samples are added. ``evidence``: bounds from both
sides. Most need blackjax (extra mcmc); docs/inference.md says what each shows.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from lessons import classification, latents, lattices, modes, shapes
from lessons.fits import Lesson, fitted
from scipy import special, stats

from vaex import inference, plots
from vaex.distributions import Normal
from vaex.plots.records import Curves
from vaex.results.compare import aligned

EFFECTS = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])  # Rubin 1981
ERRORS = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools() -> tuple[Curves, list[list[str]]]:
    """Return the density of the log of the spread, and for each fit mean and spread beside the truth."""
    mean, grid = np.meshgrid(np.linspace(-30, 40, 701), np.linspace(-6, 6, 601), indexing="ij")
    spread = np.exp(grid)
    joint = stats.norm.logpdf(mean, 0, 5) - np.log1p((spread / 5) ** 2) + grid
    for effect, error in zip(EFFECTS, ERRORS, strict=True):
        joint += stats.norm.logpdf(effect, mean, np.sqrt(error**2 + spread**2))
    mass = np.exp(joint - special.logsumexp(joint))
    log_spread = grid[0]

    def log_density(p: dict[str, jax.Array]) -> jax.Array:
        prior = Normal(0.0, 5.0, event_ndims=0).log_prob(p["mean"]) - jnp.log1p(jnp.square(p["spread"] / 5.0))
        prior += Normal(jnp.zeros(8), 1.0).log_prob(p["deviation"])
        return prior + Normal(p["mean"] + p["spread"] * p["deviation"], ERRORS).log_prob(jnp.asarray(EFFECTS))

    supports = {"mean": inference.real(), "spread": inference.positive(), "deviation": inference.real(8)}
    lines = {"truth": mass.sum(0) / (log_spread[1] - log_spread[0])}
    evidence = special.logsumexp(joint) + np.log(0.1 * (log_spread[1] - log_spread[0]))
    rows = [["truth", f"{np.sum(mass * mean):.2f}", "-", f"{np.sum(mass * spread):.2f}", "-", f"{evidence:.2f}", "-"]]
    for name, family in {
        "mean field": inference.MeanField(supports),
        "full rank": inference.FullRank(supports),
    }.items():
        _, diagnosis = fitted(family, log_density)
        draws = np.log(np.asarray(diagnosis.samples["spread"]))
        lines[name] = stats.gaussian_kde(draws)(log_spread)
        corrected = inference.corrected_expectation(lambda p: jnp.stack([p["mean"], p["spread"]]), diagnosis)
        raw = [float(jnp.mean(diagnosis.samples[key])) for key in ("mean", "spread")]
        cells = [
            f"{value:.2f}" for value in (raw[0], corrected[0], raw[1], corrected[1], diagnosis.elbo, diagnosis.pareto_k)
        ]
        rows.append([name, *cells])
    header = ["fit", "mean", "corrected", "spread", "corrected", "ELBO (truth: evidence)", "Pareto k"]
    return Curves(log_spread, lines, "log of the spread", "density", "Eight schools"), [header, *rows]


EXAMPLES: dict[str, Callable[[], Lesson]] = {
    "banana": shapes.banana,
    "bayesian_network": classification.bayesian_network,
    "bimodal": modes.bimodal,
    "eight_schools": eight_schools,
    "evidence": latents.evidence,
    "funnel": shapes.funnel,
    "gaussian_mixture": lattices.gaussian_mixture,
    "hidden_variables": latents.hidden_variables,
    "ising": lattices.ising,
    "jensen": latents.jensen,
    "logistic_regression": classification.logistic_regression,
}


def main(arguments: list[str] | None = None) -> int:
    """Print the table and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example", choices=tuple(EXAMPLES), default="bimodal", help="(default: %(default)s)")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("figures"), help="folder (default: %(default)s)"
    )
    flags = parser.parse_args(arguments)
    figure, table = EXAMPLES[flags.example]()
    print(aligned(table))
    print(plots.save(figure, flags.out / f"inference_{flags.example}.png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
