"""What the space of codes holds: directions of attributes, what single latents change, geodesics, maps, and the prior's fit.

Functions take NumPy codes [n, d] and functions of them, so they serve models of any library.
"""

from vaex.evaluation.latent_space.attributes import Arithmetic, attribute_arithmetic, attribute_vector
from vaex.evaluation.latent_space.classifiers import Classifier, fit_classifier
from vaex.evaluation.latent_space.embedding import Embedding, embed
from vaex.evaluation.latent_space.geodesics import geodesic, path_length
from vaex.evaluation.latent_space.perturbations import Perturbations, perturbations
from vaex.evaluation.latent_space.prior_fit import PriorFit, prior_fit

__all__ = [
    "Arithmetic",
    "Classifier",
    "Embedding",
    "Perturbations",
    "PriorFit",
    "attribute_arithmetic",
    "attribute_vector",
    "embed",
    "fit_classifier",
    "geodesic",
    "path_length",
    "perturbations",
    "prior_fit",
]
