"""Members whose loss or variables are not finite: which they are, at which step, and by which term."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree, TrainState
from vaex.errors import NonFiniteError


class Divergence(NamedTuple):
    """A member of a population that has diverged, and stays as it was before.

    Attributes:
      member: its number.
      stage: name of the stage that was trained.
      step: how many steps of the stage it has taken; the next one is not finite.
      term: what was not finite then.
    """

    member: int
    stage: str
    step: int
    term: str


class DivergedError(NonFiniteError):
    """Members of a population diverged in a chunk of steps, whose results are lost.

    Attributes:
      stop: end of the chunk.
      terms: member -> its number of steps, and what was not finite.
    """

    def __init__(self, stop: int, terms: Mapping[int, tuple[int, str]]) -> None:
        parts = (f"member {index} at step {step}: {term}" for index, (step, term) in terms.items())
        super().__init__("; ".join(parts))
        self.stop, self.terms = stop, dict(terms)


def is_sound(state: TrainState) -> jax.Array:
    """Return True if one member's parameters are finite and its other variables hold no nan (a finite loss may have neither)."""

    def has_none(tree: PyTree, is_unsound: Callable[[jax.Array], jax.Array]) -> jax.Array:
        leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return jnp.all(jnp.stack([jnp.asarray(True), *(~jnp.any(is_unsound(leaf)) for leaf in leaves)]))

    params_sound = has_none(state.variables.params, lambda leaf: ~jnp.isfinite(leaf))
    return params_sound & has_none(state.variables.state, jnp.isnan)


def terms_of(
    state: TrainState, names: Sequence[str], last: np.ndarray, finite: np.ndarray
) -> dict[int, tuple[int, str]]:
    """Return member -> the step at which it diverged, and what was not finite.

    Args:
      state: stacked, after that step.
      names: of the m metrics.
      last: metrics of the last step, [p, m].
      finite: whether each member is sound, [p].
    """
    steps, described = np.asarray(state.step), {}
    for index in map(int, np.flatnonzero(~finite)):
        terms = dict(zip(names, last[index], strict=True))
        bad = [name for name, value in terms.items() if not math.isfinite(value)]
        bad.sort(key=lambda name: ("loss" in name, name == "elbo", name))  # causes before the sums they spoil
        if terms["finite"] > 0:
            term = f"the loss is finite, but the update made {_spoiled(state, index)} not finite"
        else:
            term = f"{bad[0]} is {terms[bad[0]]}" if bad else "the gradient is not finite"
        described[index] = int(steps[index]) - 1, term
    return described


def _spoiled(state: TrainState, index: int) -> str | None:
    """The name of a member's first parameter that is not finite, or other variable that holds nan."""
    for tree, spoiled in (
        (state.variables.params, lambda values: ~np.isfinite(values)),
        (state.variables.state, np.isnan),
    ):
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
            if jnp.issubdtype(leaf.dtype, jnp.inexact) and np.any(spoiled(np.asarray(leaf[index]))):
                return jax.tree_util.keystr(path, simple=True, separator="/")
    return None
