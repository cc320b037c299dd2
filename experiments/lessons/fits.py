"""What the lessons share: a fit with its diagnosis, Markov chains as the truth, scores of predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from vaex import inference
from vaex.plots import FigureRecord

Lesson: TypeAlias = tuple[FigureRecord, list[list[str]]]
LogDensity: TypeAlias = Callable[[Any], jax.Array]


def fitted(
    family: inference.Family,
    log_density: LogDensity,
    *,
    num_samples: int = 20_000,
    gradient_samples: int = 16,
    seed: int = 0,
    **options: Any,
) -> tuple[Any, inference.Diagnosis]:
    """Fit with ``gradient_samples`` for each gradient, and diagnose by ``num_samples`` draws, in one compiled program."""

    @jax.jit
    def program(key: jax.Array) -> tuple[Any, inference.Diagnosis]:
        params, _ = inference.fit(key, log_density, family, num_samples=gradient_samples, **options)
        return params, inference.diagnose(
            jax.random.fold_in(key, 1), log_density, family, params, num_samples=num_samples
        )

    return program(jax.random.key(seed))


def chains(log_density: LogDensity, supports: Any, **options: Any) -> inference.Chains:
    """The No-U-Turn sampler, four chains of 1000 draws unless said otherwise."""
    return jax.jit(lambda key: inference.sample_chains(key, log_density, supports, **options))(jax.random.key(7))


def agreement(result: inference.Chains) -> str:
    """Worst R-hat and effective sample size of all elements."""
    r_hat = max(float(jnp.max(leaf)) for leaf in jax.tree.leaves(result.r_hat))
    size = min(float(jnp.min(leaf)) for leaf in jax.tree.leaves(result.effective_sample_size))
    return f"R-hat {r_hat:.2f}, ESS {size:.0f}"


def draws(result: inference.Chains) -> Any:
    """Samples of all chains in one axis."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), result.samples)


def scores(probability: np.ndarray, labels: np.ndarray, bins: int = 10) -> tuple[float, float, float]:
    """Accuracy, log loss in nats, and expected calibration error of probabilities of label 1."""
    probability = np.clip(np.asarray(probability, np.float64), 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(labels == 1, np.log(probability), np.log1p(-probability)))
    calibration = 0.0
    for inside, mean, rate in reliability(probability, labels, bins):
        calibration += inside / len(labels) * abs(mean - rate)
    return float(np.mean((probability > 0.5) == (labels == 1))), float(loss), calibration


def reliability(probability: np.ndarray, labels: np.ndarray, bins: int) -> list[tuple[int, float, float]]:
    """Number of examples, mean probability and share of label 1 of each bin that holds examples."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    members = [index == number for number in range(bins)]
    return [
        (int(inside.sum()), float(probability[inside].mean()), float(labels[inside].mean()))
        for inside in members
        if inside.any()
    ]
