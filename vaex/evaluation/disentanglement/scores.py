"""All scores of one set of codes, with the protocol of each in words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from numpy.typing import ArrayLike

from vaex.errors import UserError
from vaex.evaluation.disentanglement import information, interventions, predictors

PROTOCOLS: Mapping[str, str] = {
    "beta_vae": "2,000 points of 64 pairs that share a factor, logistic regression on mean |z1 - z2|, half held out",
    "factor_vae": "2,000 points of 64 examples that share a factor, vote on the latent of least relative variance; below 0.05 none",
    "mig": "20 bins of equal width; information from counts, divided by the factor's entropy",
    "modularity": "20 bins of equal width; squared information of other factors, latents without information count as 0",
    "sap": "linear support vector machines of single latents (C = 0.01, balanced), accuracy on the other half",
    "dci_disentanglement": "forests of 50 trees of depth 12, importance by decrease of impurity",
    "dci_completeness": "as dci_disentanglement",
    "dci_informativeness": "as dci_disentanglement: accuracy on the other half, mean over factors",
    "explicitness": "logistic regression of all latents, area under the ROC of each value, scaled to [0, 1], on the other half",
    "irs": "0.99 quantile of distances from the mean of a factor's value, over the largest distance",
}


def all_scores(
    codes: ArrayLike, factors: ArrayLike, *, scores: Collection[str] | None = None, seed: int = 0
) -> dict[str, float]:
    """Scores by name; ``PROTOCOLS`` describes each, and lists the names.

    Args:
      codes: [n, d], such as posterior means.
      factors: [n, f >= 2], integers.
      scores: which; all by default.
      seed: of draws, halves and trees.
    Returns: name -> score in [0, 1], higher where codes are more disentangled.
    Raises: UserError for an unknown name; ValueError as the functions do.
    """
    chosen = tuple(PROTOCOLS) if scores is None else tuple(scores)
    if unknown := [name for name in chosen if name not in PROTOCOLS]:
        raise UserError(f"unknown score {unknown[0]!r}; there are {', '.join(PROTOCOLS)}")
    functions: dict[str, Callable[[], float]] = {
        "beta_vae": lambda: interventions.beta_vae_score(codes, factors, seed=seed),
        "factor_vae": lambda: interventions.factor_vae_score(codes, factors, seed=seed),
        "mig": lambda: information.mutual_information_gap(codes, factors).score,
        "modularity": lambda: information.modularity(codes, factors).score,
        "sap": lambda: predictors.separated_attribute_predictability(codes, factors, seed=seed).score,
        "explicitness": lambda: predictors.explicitness(codes, factors, seed=seed).score,
        "irs": lambda: interventions.interventional_robustness(codes, factors).score,
    }
    values = {name: function() for name, function in functions.items() if name in chosen}
    if any(name.startswith("dci_") for name in chosen):
        values |= {f"dci_{part}": value for part, value in _dci(codes, factors, seed).items()}
    return {name: float(values[name]) for name in chosen}


def _dci(codes: ArrayLike, factors: ArrayLike, seed: int) -> dict[str, float]:
    result = predictors.dci(codes, factors, seed=seed)
    return {part: getattr(result, part) for part in ("disentanglement", "completeness", "informativeness")}
