"""Disentanglement of codes whose factors are known: how well single latents stand for single factors, by published scores.

Functions take codes [n, d], of any model, and factors [n, f], integers that need not fill a grid. Bins, seeds and splits are fixed
here and stated with each score; scikit-learn fits the predictors.
"""

from vaex.evaluation.disentanglement.information import (
    Modularity,
    MutualInformationGap,
    entropies,
    modularity,
    mutual_information,
    mutual_information_gap,
)
from vaex.evaluation.disentanglement.inputs import discretize
from vaex.evaluation.disentanglement.interventions import (
    InterventionalRobustness,
    beta_vae_score,
    factor_vae_score,
    interventional_robustness,
)
from vaex.evaluation.disentanglement.predictors import (
    DCI,
    Explicitness,
    SeparatedAttributes,
    dci,
    explicitness,
    importance_scores,
    separated_attribute_predictability,
)
from vaex.evaluation.disentanglement.scores import PROTOCOLS, all_scores
from vaex.evaluation.disentanglement.unsupervised import unsupervised_disentanglement_ranking

__all__ = [
    "DCI",
    "PROTOCOLS",
    "Explicitness",
    "InterventionalRobustness",
    "Modularity",
    "MutualInformationGap",
    "SeparatedAttributes",
    "all_scores",
    "beta_vae_score",
    "dci",
    "discretize",
    "entropies",
    "explicitness",
    "factor_vae_score",
    "importance_scores",
    "interventional_robustness",
    "modularity",
    "mutual_information",
    "mutual_information_gap",
    "separated_attribute_predictability",
    "unsupervised_disentanglement_ranking",
]
