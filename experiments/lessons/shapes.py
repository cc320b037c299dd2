"""Lessons on hard shapes: ``banana`` and ``funnel``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lessons.fits import Lesson, agreement, chains, draws, fitted
from vaex import inference
from vaex.distributions import Normal
from vaex.flows import AffineCoupling, chain, reverse
from vaex.plots import Curves, Scatter

SHOWN = 600  # points of a panel


def banana_density(x: jax.Array) -> jax.Array:
    """x0 ~ N(0, 1), x1 ~ N(x0^2, 0.5); normalised."""
    first = Normal(0.0, 1.0, event_ndims=0).log_prob(x[0])
    return first + Normal(jnp.square(x[0]), 0.5, event_ndims=0).log_prob(x[1])


def _flow(size: int) -> inference.Family:
    layers = [AffineCoupling(size, (32,)), reverse(size)] * 3
    return inference.NormalizingFlow(size, chain(*layers))


def banana() -> Lesson:
    """Return draws of the target and of each fit, and their ELBO and moments; the log evidence is 0."""
    families: dict[str, inference.Family] = {
        "mean field": inference.MeanField(2),
        "full rank": inference.FullRank(2),
        "mixture of 6": inference.GaussianMixture(2, 6),
        "flow": _flow(2),
    }
    result = chains(banana_density, 2, num_samples=2000, warmup=1000, target_acceptance=0.98)
    truth = np.asarray(draws(result))
    table = [["fit", "ELBO", "Pareto k", "deviation of x0", "mean of x1", "deviation of x1"]]
    table.append(["exact", "0.000", "-", "1.00", "1.00", f"{np.sqrt(2.25):.2f}"])  # Var x0^2 = 2, noise 0.25
    table.append([f"NUTS ({agreement(result)})", "-", "-", *_moments(truth)])
    panels = [_panel(truth[:: len(truth) // SHOWN], "NUTS")]
    for name, family in families.items():
        options = {"optimizer": optax.adam(2e-3), "steps": 4000} if name == "flow" else {}
        _, diagnosis = fitted(family, banana_density, **options)
        points = np.asarray(diagnosis.samples)
        table.append([name, f"{diagnosis.elbo:.3f}", f"{diagnosis.pareto_k:.2f}", *_moments(points)])
        panels.append(_panel(points[:SHOWN], name))
    return panels, table


def _moments(points: np.ndarray) -> list[str]:
    return [f"{value:.2f}" for value in (points[:, 0].std(), points[:, 1].mean(), points[:, 1].std())]


def _panel(points: np.ndarray, name: str) -> Scatter:
    x = np.linspace(-3, 3, 121)
    ridge = np.stack([x, np.square(x)], axis=1)[None]  # where x1 has its mean given x0
    return Scatter(points[:SHOWN], None, "x0", "x1", name, {"ridge": ridge})


WIDTH = 5  # of the funnel, beside its neck


def centred(p: dict[str, jax.Array]) -> jax.Array:
    """Neal's funnel: v ~ N(0, 3), x ~ N(0, exp(v / 2)); normalised."""
    neck = Normal(0.0, 3.0, event_ndims=0).log_prob(p["v"])
    return neck + jnp.sum(Normal(0.0, log_scale=0.5 * p["v"], event_ndims=0).log_prob(p["x"]))


def non_centred(p: dict[str, jax.Array]) -> jax.Array:
    """The same distribution in terms of x / exp(v / 2), which is a Gaussian."""
    return Normal(0.0, 3.0, event_ndims=0).log_prob(p["v"]) + Normal(jnp.zeros(WIDTH), 1.0).log_prob(p["x"])


def funnel() -> Lesson:
    """Return densities of the neck v, N(0, 3) in truth, and ELBO and moments of each fit; the log evidence is 0."""
    supports: dict[str, Any] = {"v": inference.real(), "x": inference.real(WIDTH)}
    grid = np.linspace(-12, 12, 241)
    edges = np.linspace(-12, 12, 49)
    lines = {"truth": np.exp(-0.5 * (grid / 3) ** 2) / (3 * np.sqrt(2 * np.pi))}
    table = [["fit", "ELBO", "Pareto k", "mean of v", "deviation of v"], ["exact", "0.000", "-", "0.00", "3.00"]]

    def add(name: str, v: np.ndarray, elbo: str = "-", shape: str = "-") -> None:
        density, _ = np.histogram(v, edges, density=True)
        lines[name.split(" (")[0]] = np.interp(grid, 0.5 * (edges[1:] + edges[:-1]), density)
        table.append([name, elbo, shape, f"{v.mean():.2f}", f"{v.std():.2f}"])

    for name, density in (("NUTS, centred", centred), ("NUTS, non-centred", non_centred)):
        result = chains(density, supports)
        count = int(jnp.sum(result.divergences))
        add(f"{name} ({agreement(result)}, {count} divergences)", np.asarray(draws(result)["v"]))
    fits: dict[str, tuple[inference.Family, Any]] = {
        "mean field, centred": (inference.MeanField(supports), centred),
        "full rank, centred": (inference.FullRank(supports), centred),
        "mean field, non-centred": (inference.MeanField(supports), non_centred),
    }
    for name, (family, density) in fits.items():
        _, diagnosis = fitted(family, density)
        add(name, np.asarray(diagnosis.samples["v"]), f"{diagnosis.elbo:.3f}", f"{diagnosis.pareto_k:.2f}")
    return Curves(grid, lines, "v", "density", "Neck of the funnel"), table
