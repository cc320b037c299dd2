"""Samplers by name: what there is, how one is fitted to codes, and how codes are drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaex.errors import UserError, nearest
from vaex.samplers import gaussians, neighbours, trained

# name -> what its number counts and the number's default, or None without one; and what it is, in words
KINDS: Mapping[str, tuple[tuple[str, int | None] | None, str]] = {
    "gaussian": (None, "Gaussian with the codes' means and variances"),
    "full_gaussian": (None, "Gaussian with the codes' mean and covariance"),
    "gmm": (("components", 10), "mixture of Gaussians with full covariances, by expectation maximisation"),
    "flow": (("layers", 4), "masked autoregressive flow, by maximum likelihood"),
    "second_stage": (("latents", None), "VAE of the codes; as many latents as a code has, by default"),
    "knn": (("neighbours", 5), "points on lines from a code to one of its nearest"),
    "hypersphere": (None, "uniform directions from the origin, norms of the codes"),
}


class Sampler(NamedTuple):
    """Density of codes.

    Attributes:
      kind: as given to ``fit``, with its number: "gmm:10".
      arrays: what was fitted, by name.
    """

    kind: str
    arrays: Mapping[str, np.ndarray]


def check_kind(kind: str) -> tuple[str, int | None]:
    """Return the name of a kind and its number, None where the kind has none or the codes decide.

    Args:
      kind: "gmm", or with its number "gmm:10".
    Raises: UserError for an unknown name or a number that the kind does not take.
    Example:
      >>> check_kind("gmm:20"), check_kind("gmm"), check_kind("gaussian")
      (('gmm', 20), ('gmm', 10), ('gaussian', None))
    """
    name, colon, text = kind.partition(":")
    if name not in KINDS:
        raise UserError(f"sampler {kind!r}: {nearest(name, KINDS)}")
    number = KINDS[name][0]
    if number is None:
        if colon:
            raise UserError(f"sampler {kind!r}: {name} takes no number; give {name}")
        return name, None
    if colon and not (text.isdecimal() and int(text) > 0):
        raise UserError(f"sampler {kind!r}: expected {name} or {name}:N, the number of {number[0]}")
    return name, int(text) if colon else number[1]


def fit(kind: str, codes: ArrayLike, *, seed: int = 0) -> Sampler:
    """Fit a density to codes.

    Args:
      kind: of ``KINDS``, perhaps with its number: "gaussian", "gmm:10", "flow:4", "second_stage:16", "knn:5".
      codes: [n, d], such as draws from the posteriors of n training examples.
      seed: of whatever the fit draws.
    Returns: the sampler, a pure function of the arguments.
    Raises: UserError for an unknown kind, or too few codes for its number; ValueError unless codes are finite [n, d], n >= 2.
    Example:
      >>> fit("full_gaussian", [[1.0, 0.0], [3.0, 4.0]]).arrays["means"].tolist()
      [[2.0, 2.0]]

    References: Ghosh et al. 2020, section 4 (densities after training); Dai & Wipf 2019 (second_stage).
    """
    name, number = check_kind(kind)
    values = np.asarray(codes, np.float32)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"fit: codes has shape {values.shape}, expected finite [n, d] with n >= 2")
    if name in ("gmm", "knn") and number is not None and number >= len(values):
        raise UserError(f"sampler {kind!r}: {len(values)} codes are too few; give a smaller number")
    if name == "gmm":
        arrays = gaussians.fit_mixture(values, number or 1, seed)
    elif name in ("gaussian", "full_gaussian"):
        arrays = gaussians.fit_gaussian(values, diagonal=name == "gaussian")
    elif name == "flow":
        arrays = trained.fit_flow(values, number or 1, seed)
    elif name == "second_stage":
        arrays = trained.fit_second_stage(values, number or values.shape[1], seed)
    elif name == "knn":
        arrays = neighbours.fit_neighbours(values, number or 1, seed)
    else:
        arrays = neighbours.fit_sphere(values, seed)
    return Sampler(name if number is None else f"{name}:{number}", arrays)


def draw(sampler: Sampler, key: jax.Array, n: int) -> jax.Array:
    """Draw codes from a sampler: float32 [n, d].

    Example:
      >>> constant = Sampler("knn:1", {"codes": np.ones((2, 3), np.float32), "neighbours": np.array([[1], [0]])})
      >>> draw(constant, jax.random.key(0), 2).tolist()
      [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    name, number = check_kind(sampler.kind)
    if name in ("gaussian", "full_gaussian", "gmm"):
        return gaussians.draw_mixture(sampler.arrays, key, n)
    if name == "flow":
        return trained.draw_flow(sampler.arrays, number or 1, key, n)
    if name == "second_stage":
        return trained.draw_second_stage(sampler.arrays, key, n)
    if name == "knn":
        return neighbours.draw_between(sampler.arrays, key, n)
    return neighbours.draw_sphere(sampler.arrays, key, n)
