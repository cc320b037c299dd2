"""Lessons on coordinate ascent: ``gaussian_mixture`` and ``ising``."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from sklearn import mixture

from lessons.fits import Lesson
from vaex import inference
from vaex.plots import Curves, Scatter

CENTRES = np.array([[0.0, 0.0], [4.0, 1.0], [-2.5, 3.5]])
SHAPES = np.array([[[1.0, 0.6], [0.6, 1.0]], [[0.3, 0.0], [0.0, 1.5]], [[0.5, -0.2], [-0.2, 0.3]]])
STARTS = 8


def gaussian_mixture() -> Lesson:
    """Return clusters and evidence bounds by number of components, beside maximum likelihood and scikit-learn."""
    rng = np.random.default_rng(0)
    x, label = _three_clusters(rng, 150)
    held_out, _ = _three_clusters(rng, 2000)
    numbers = np.arange(1, 7)
    elbos, predictive, likelihood, held = [], [], [], []
    table = [
        [
            "components",
            "ELBO",
            "used",
            "held out, Bayes",
            "train, ML",
            "held out, ML",
            "scikit-learn's weights differ by",
        ]
    ]
    chosen = None
    for number in numbers:
        fit, start = _best_of_starts(x, int(number))
        reference = mixture.BayesianGaussianMixture(
            n_components=int(number),
            weight_concentration_prior_type="dirichlet_distribution",
            reg_covar=0.0,
            tol=1e-8,
            max_iter=2000,
        )
        reference.set_params(init_params="random", random_state=start)
        difference = np.abs(reference.fit(x.astype(np.float64)).weights_ - np.asarray(fit.weights)).max()
        point = mixture.GaussianMixture(n_components=int(number), n_init=5, random_state=0).fit(x)
        elbos.append(float(fit.elbo[-1]))
        predictive.append(float(jnp.mean(fit.log_predictive(jnp.asarray(held_out)))))
        likelihood.append(point.score(x))
        held.append(point.score(held_out))
        used = int(jnp.sum(jnp.sum(fit.responsibilities, axis=0) > 1.0))
        row = [elbos[-1], predictive[-1], likelihood[-1], held[-1]]
        cells = [f"{value:.3f}" for value in row]
        table.append([str(number), f"{elbos[-1]:.2f}", str(used), *cells[1:], f"{difference:.1e}"])
        if number == 6:
            chosen = np.argmax(np.asarray(fit.responsibilities), axis=1)
    panels = [
        Scatter(x, label, "", "", "Data, by true cluster"),
        Scatter(x, chosen, "", "", "Fit with 6 components"),
        Curves(numbers, {"ELBO": np.array(elbos)}, "components", "nats", "Evidence bound"),
        Curves(
            numbers,
            {"Bayes": np.array(predictive), "maximum likelihood": np.array(held)},
            "components",
            "nats per point",
            "Held-out log-density",
        ),
    ]
    return panels, table


def _three_clusters(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    label = rng.integers(0, 3, count)
    roots = np.linalg.cholesky(SHAPES)
    noise = rng.normal(size=(count, 2))
    return (CENTRES[label] + np.einsum("nij,nj->ni", roots[label], noise)).astype(np.float32), label


def _best_of_starts(x: np.ndarray, number: int) -> tuple[inference.MixtureFit, int]:
    """The fit with the highest ELBO of 8 random starts, and its seed: scikit-learn's with ``init_params="random"``."""
    starts = np.stack([np.random.RandomState(seed).uniform(size=(len(x), number)) for seed in range(STARTS)])
    prior = inference.MixturePrior(concentration=1.0 / number)

    def fit(start: jax.Array, steps: int) -> inference.MixtureFit:
        return inference.fit_mixture(jnp.asarray(x), start, prior=prior, steps=steps)

    fits = jax.jit(jax.vmap(lambda start: fit(start, 100)))(starts)
    best = int(jnp.argmax(fits.elbo[:, -1]))
    return jax.jit(lambda start: fit(start, 1000))(fits.responsibilities[best]), best


def ising() -> Lesson:
    """Return magnetisation and log Z of a 4 x 4 lattice by mean field and by enumeration, and the table of some couplings."""
    spins = np.array(list(itertools.product([-1.0, 1.0], repeat=16)))
    neighbours = np.asarray(inference.ising_couplings(4, 4), np.float64)
    interaction, total = 0.5 * np.sum((spins @ neighbours) * spins, axis=1), spins.sum(axis=1)
    strengths, field = np.linspace(0.0, 0.8, 33), 0.05
    fits = jax.jit(
        jax.vmap(
            lambda strength: inference.fit_ising(strength * jnp.asarray(neighbours, jnp.float32), field, steps=500)
        )
    )(jnp.asarray(strengths, jnp.float32))
    log_z, magnetisation = [], []
    for strength in strengths:
        energy = strength * interaction + field * total
        log_z.append(special.logsumexp(energy))
        magnetisation.append(np.exp(energy - log_z[-1]) @ total / 16)
    bound, mean = np.asarray(fits.elbo[:, -1]), np.asarray(fits.mean).mean(axis=1)
    table = [["coupling", "log Z", "mean-field bound", "gap", "magnetisation", "mean field's"]]
    for index in range(0, 33, 4):
        values = (strengths[index], log_z[index], bound[index], log_z[index] - bound[index])
        table.append([f"{value:.3f}" for value in (*values, magnetisation[index], mean[index])])
    left = Curves(
        strengths,
        {"exact": magnetisation, "mean field": mean},
        "coupling",
        "magnetisation",
        f"Field {field}, 4 x 4 spins",
    )
    right = Curves(strengths, {"log Z": log_z, "mean-field bound": bound}, "coupling", "nats", "Evidence")
    return [left, right], table
