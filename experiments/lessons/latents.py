"""Lessons on one hidden variable: ``hidden_variables``, ``jensen`` and ``evidence``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special, stats

from lessons.fits import Lesson, chains, fitted
from vaex import bounds, inference
from vaex.distributions import Normal
from vaex.plots import Curves

OBSERVED, NOISE = 1.2, 0.6
GRID = np.linspace(-12.0, 12.0, 4801)
CELL = GRID[1] - GRID[0]


def mean_of(z):
    """The decoder: E[x | z]."""
    return 0.5 * z**2 + 0.4 * z


def log_joint(z: jax.Array) -> jax.Array:
    """log p(z) + log p(x | z) of z []."""
    prior = Normal(0.0, 1.0, event_ndims=0).log_prob(z)
    return prior + Normal(mean_of(z), NOISE, event_ndims=0).log_prob(jnp.asarray(OBSERVED))


def quadrature() -> tuple[np.ndarray, np.ndarray, float]:
    """Log prior, log likelihood [n] and log evidence, in double precision."""
    log_prior = stats.norm.logpdf(GRID)
    log_likelihood = stats.norm.logpdf(OBSERVED, mean_of(GRID), NOISE)
    return log_prior, log_likelihood, float(special.logsumexp(log_prior + log_likelihood) + np.log(CELL))


def hidden_variables() -> Lesson:
    """Return prior, likelihood, joint and posterior, the fits beside it; log evidence = ELBO + KL, each term by quadrature."""
    log_prior, log_likelihood, evidence = quadrature()
    joint = log_prior + log_likelihood
    posterior = np.exp(joint - evidence)
    families: dict[str, inference.Family] = {
        "Gaussian": inference.MeanField(inference.real()),
        "mixture of two": inference.GaussianMixture(inference.real(), 2, scale=2.0),
    }
    approximations = {}
    table = [["q", "reconstruction", "KL from the prior", "ELBO", "KL from the posterior", "sum (log evidence)"]]

    def add(name: str, log_q: np.ndarray) -> None:
        q = np.exp(log_q) * CELL
        reconstruction, divergence = np.sum(q * log_likelihood), np.sum(q * (log_q - log_prior))
        gap = np.sum(q * (log_q - (joint - evidence)))
        elbo = reconstruction - divergence
        table.append([name, *(f"{v:.4f}" for v in (reconstruction, divergence, elbo, gap, elbo + gap))])

    add("prior", log_prior)
    for name, family in families.items():
        params, _ = fitted(family, log_joint)
        log_q = np.asarray(family.distribution(params).log_prob(jnp.asarray(GRID)[:, None]), np.float64)
        approximations[name] = np.exp(log_q)
        add(name, log_q)
    add("posterior", joint - evidence)
    table.append(["by quadrature", "", "", "", "", f"{evidence:.4f}"])
    terms = {
        "prior p(z)": np.exp(log_prior),
        "likelihood p(x|z)": np.exp(log_likelihood),
        "joint p(x, z)": np.exp(joint),
    }
    shown = np.abs(GRID) < 4
    densities = {"posterior": posterior, **approximations}
    terms, densities = ({name: line[shown] for name, line in lines.items()} for lines in (terms, densities))
    left = Curves(GRID[shown], terms, "z", "", f"Evidence {np.exp(evidence):.3f}: the area under the joint")
    right = Curves(GRID[shown], densities, "z", "density", "Posterior, and q")
    return [left, right], table


def jensen() -> Lesson:
    """Return the gap of the importance bound against the number of samples K, and its limit Var[w / p(x)] / (2 K)."""
    log_prior, log_likelihood, evidence = quadrature()
    family = inference.MeanField(inference.real(), scale=1.5)
    params, _ = fitted(family, log_joint, objective=inference.forward_kl(), num_samples=5000)
    q = family.distribution(params)
    log_q = np.asarray(q.log_prob(jnp.asarray(GRID)[:, None]), np.float64)
    ratio = log_prior + log_likelihood - evidence - log_q
    variance = np.sum(np.exp(log_q + 2 * ratio)) * CELL - 1.0
    elbo = np.sum(np.exp(log_q) * ratio) * CELL
    counts, repeats = 2 ** np.arange(0, 9), 16_000

    @jax.jit
    def log_weights(key: jax.Array) -> jax.Array:
        z = q.sample(key, (int(counts[-1]), repeats))
        return jax.vmap(jax.vmap(lambda one: log_joint(one[0])))(z) - q.log_prob(z)

    weights = log_weights(jax.random.key(3))
    gaps, errors = [], []
    for count in counts:
        groups = weights.reshape(int(count), -1)  # all draws, in groups of K
        values = evidence - np.asarray(bounds.importance_bound(groups), np.float64)
        gaps.append(values.mean())
        errors.append(values.std() / np.sqrt(values.size))
    limit = variance / (2 * counts)
    table = [["K", "gap (nats)", "standard error", "Var / (2 K)"]]
    for count, gap, error, value in zip(counts, gaps, errors, limit, strict=True):
        table.append([str(count), f"{gap:.5f}", f"{error:.5f}", f"{value:.5f}"])
    table.append(["1, by quadrature", f"{-elbo:.5f}", "-", "-"])
    lines = {"gap": np.log10(np.maximum(gaps, 1e-6)), "Var / (2 K)": np.log10(limit)}
    return Curves(np.log2(counts), lines, "log2 K", "log10 of the gap (nats)", "The gap of Jensen's inequality"), table


def evidence() -> Lesson:
    """Return the bounds of the evidence from both sides, for a Gaussian fitted to the posterior of ``hidden_variables``."""
    _, _, exact = quadrature()
    family = inference.MeanField(inference.real(), scale=1.5)
    params, _ = fitted(family, log_joint, objective=inference.forward_kl(), num_samples=5000)
    result = chains(log_joint, inference.real())
    draws = result.z.reshape(-1, 1)[::20]
    found = jax.jit(
        lambda key: inference.bound_evidence(key, log_joint, family, params, num_samples=5000, posterior=draws)
    )(jax.random.key(5))
    table = [["bound", "value", "standard error", "side", "value - log evidence"]]
    lower = ("elbo", "thermodynamic_lower", "importance", "annealed")
    for name, estimate in found._asdict().items():
        side = "lower" if name in lower else "upper"
        table.append(
            [name, f"{estimate.value:.4f}", f"{estimate.error:.4f}", side, f"{float(estimate.value) - exact:.4f}"]
        )
    table.append(["quadrature", f"{exact:.4f}", "-", "-", "0"])
    temperatures = np.array([1, 2, 5, 10, 20, 50])
    weights = jax.jit(lambda key: _weights(key, family.distribution(params)))(jax.random.key(6))
    lines = {"log evidence": np.full(len(temperatures), exact)}
    for side in ("lower", "upper"):
        lines[f"thermodynamic, {side}"] = np.array(
            [
                float(bounds.thermodynamic_bound(weights, temperatures=np.linspace(0, 1, count + 1), side=side))
                for count in temperatures
            ]
        )
    return Curves(
        np.log10(temperatures), lines, "log10 of the number of temperatures", "nats", "From both sides"
    ), table


def _weights(key: jax.Array, q: Normal) -> jax.Array:
    z = q.sample(key, (20_000,))
    return jax.vmap(lambda one: log_joint(one[0]))(z) - q.log_prob(z)
