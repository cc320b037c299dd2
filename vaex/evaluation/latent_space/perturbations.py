"""Single latents are moved, and what changes in the decoded example is measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vaex.evaluation.latent_space.classifiers import Classify
from vaex.evaluation.traversals import DecodeCodes, decode_points


class Perturbations(NamedTuple):
    """What moving each latent changes.

    Attributes:
      names: of the attributes, [f].
      changed: share of examples whose predicted attribute is another one, [d, f].
      values: root mean squared change of a value of the decoded example, [d].
    """

    names: tuple[str, ...]
    changed: np.ndarray
    values: np.ndarray


def perturbations(
    decode: DecodeCodes, codes: ArrayLike, classify: Classify, *, steps: float = 1.0, scale: ArrayLike | None = None
) -> Perturbations:
    """Move one latent at a time up and down, and measure which attributes a classifier then sees changed.

    Args:
      decode: codes [n, d] -> examples [n, ...].
      codes: [n, d].
      classify: examples -> name -> integers [n].
      steps: how far, in units of ``scale``; both directions are averaged.
      scale: of each latent, [d]; by default the standard deviation of the codes.
    Raises: ValueError unless codes are finite [n, d], n >= 2.
    Example:
      >>> signs = lambda x: {"first": (x[:, 0] > 0).astype(int), "second": (x[:, 1] > 0).astype(int)}
      >>> perturbations(lambda z: z, [[0.1, 1.0], [-0.1, -1.0]], signs, scale=[0.5, 0.5]).changed.tolist()
      [[0.5, 0.0], [0.0, 0.0]]
    """
    z = np.asarray(codes, np.float64)
    if z.ndim != 2 or len(z) < 2 or not np.isfinite(z).all() or steps <= 0:
        raise ValueError(
            f"perturbations: codes has shape {z.shape} and steps is {steps}, expected finite [n, d] with n >= 2, and steps above 0"
        )
    size = z.std(axis=0) if scale is None else np.asarray(scale, np.float64)
    base = decode_points("perturbations", decode, z)
    before = classify(base)
    names = tuple(before)
    changed, values = np.zeros((z.shape[1], len(names))), np.zeros(z.shape[1])
    for latent in range(z.shape[1]):
        squares = 0.0
        for sign in (-1.0, 1.0):
            moved = z.copy()
            moved[:, latent] += sign * steps * size[latent]
            x = decode_points("perturbations", decode, moved)
            after = classify(x)
            changed[latent] += [0.5 * np.mean(after[name] != before[name]) for name in names]
            squares += 0.5 * float(np.mean(np.square(np.asarray(x, np.float64) - base)))
        values[latent] = np.sqrt(squares)
    return Perturbations(names, changed, values)
