"""Lesson on two modes: ``bimodal``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lessons.fits import Lesson, fitted
from vaex import inference
from vaex.distributions import Mixture, MultivariateNormal, Normal
from vaex.plots import Curves, Scatter

LINE = Mixture(jnp.log(jnp.array([0.4, 0.6])), Normal(jnp.array([[-2.0], [2.5]]), 0.8))
GRID = np.linspace(-8, 9, 1701)
CELL = GRID[1] - GRID[0]
SHOWN = 600  # points of a panel

# modes of a plane, each long in the direction (1, 1), side by side along (1, -1)
CENTRES = np.array([[-1.5, 1.5], [1.5, -1.5]])
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])
PLANE = Mixture(
    jnp.log(jnp.array([0.4, 0.6])),
    MultivariateNormal(
        jnp.asarray(CENTRES, jnp.float32), scale_tril=jnp.asarray(np.linalg.cholesky(COVARIANCE), jnp.float32)
    ),
)

Fits = dict[str, tuple[inference.Family, dict[str, Any]]]
FORWARD = {"objective": inference.forward_kl(), "gradient_samples": 200}


def bimodal() -> Lesson:
    """Return densities and draws on a line and on a plane, and for each fit moments, KL divergences both ways, and Pareto's k."""
    curves, table = _on_a_line()
    panels, more = _on_a_plane()
    return [curves, *panels], [*table, *more]


def _on_a_line() -> tuple[Curves, list[list[str]]]:
    density = np.exp(np.asarray(LINE.log_prob(jnp.asarray(GRID)[:, None]), np.float64))
    wide = inference.MeanField(1, scale=3.0)
    right = {"loc": jnp.array([2.0]), "log_scale": jnp.zeros(1)}
    fits: Fits = {
        "reverse KL": (wide, {"params": right}),
        "forward KL": (wide, FORWARD),
        "Renyi, alpha = 0.5": (wide, {"objective": inference.renyi(0.5), "gradient_samples": 200}),
        "chi bound": (wide, {"objective": inference.chi(), "gradient_samples": 200}),
        "reverse KL, mixture": (inference.GaussianMixture(1, 2, scale=2.0), {}),
    }

    def row(name: str, log_q: np.ndarray, elbo: str, shape: str) -> list[str]:
        values = np.exp(log_q)
        mean = np.sum(GRID * values) * CELL
        deviation = np.sqrt(np.sum((GRID - mean) ** 2 * values) * CELL)
        forward = np.sum(density * (np.log(density) - log_q)) * CELL
        numbers = [f"{mean:.2f}", f"{deviation:.2f}", f"{np.sum(values[GRID > 0]) * CELL:.2f}"]
        return [name, *numbers, elbo, shape, f"{forward:.2f}"]

    lines, rows = {"truth": density}, [row("truth", np.log(density), "0.000", "-")]
    for name, (family, options) in fits.items():
        params, diagnosis = fitted(family, LINE.log_prob, **options)
        log_q = np.asarray(family.distribution(params).log_prob(jnp.asarray(GRID)[:, None]), np.float64)
        lines[name] = np.exp(log_q)
        rows.append(row(name, log_q, f"{diagnosis.elbo:.3f}", f"{diagnosis.pareto_k:.2f}"))
    header = ["fit", "mean", "deviation", "mass above 0", "ELBO (minus reverse KL)", "Pareto k", "forward KL"]
    points = {"truth": (GRID[::25], density[::25])}  # the mixture's line lies on the truth's
    return Curves(GRID, lines, "x", "density", "One Gaussian, and a mixture", marks=points), [header, *rows]


def _on_a_plane() -> tuple[list[Scatter], list[list[str]]]:
    """Mean field, full rank and mixtures; the forward KL by draws of the target."""
    lower = {"loc": jnp.asarray(CENTRES[1], jnp.float32), "log_scale": jnp.zeros(2)}
    fits: Fits = {
        "mean field, reverse": (inference.MeanField(2), {"params": lower}),
        "full rank, reverse": (inference.FullRank(2), {"params": {**lower, "lower": jnp.zeros((2, 2))}}),
        "full rank, forward": (inference.FullRank(2, scale=3.0), FORWARD),
        "mixture of 2, reverse": (inference.GaussianMixture(2, 2, scale=2.0), {}),
        "mixture of 8, reverse": (inference.GaussianMixture(2, 8, scale=2.0), {}),
    }
    truth = PLANE.sample(jax.random.key(2), (20_000,))
    log_p = PLANE.log_prob(truth)
    angles = np.linspace(0, 2 * np.pi, 61)
    circle = 2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outlines = {"truth, two deviations": CENTRES[:, None] + circle @ np.linalg.cholesky(COVARIANCE).T}
    header = [
        "on a plane",
        "correlation",
        "deviation of x0",
        "mass of the lower mode",
        "ELBO",
        "Pareto k",
        "forward KL",
    ]
    panels, table = [], [header]

    def add(name: str, draws: np.ndarray, *cells: str) -> None:
        lower = np.mean(draws[:, 0] > draws[:, 1])
        numbers = (np.corrcoef(draws.T)[0, 1], draws[:, 0].std(), lower)
        table.append([name, *(f"{value:.2f}" for value in numbers), *cells])

    add("exact draws", np.asarray(truth), "0.000", "-", "0.00")
    for name, (family, options) in fits.items():
        params, diagnosis = fitted(family, PLANE.log_prob, **options)
        forward = jnp.mean(log_p - family.distribution(params).log_prob(truth))
        draws = np.asarray(diagnosis.samples)
        add(name, draws, f"{diagnosis.elbo:.3f}", f"{diagnosis.pareto_k:.2f}", f"{forward:.2f}")
        panels.append(Scatter(draws[:SHOWN], None, "x0", "x1", name, outlines))
    return panels, table
