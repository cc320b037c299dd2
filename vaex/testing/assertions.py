"""Comparisons of pytrees, random keys included, that raise AssertionError where two differ."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import PyTree
from vaex.training import population

ROUNDINGS = 10.0  # by which two programs may differ, in units of what one rounding of the first parameters changes


def comparable(tree: PyTree) -> PyTree:
    """Return the tree with NumPy arrays for leaves; keys become the integers that they hold."""

    def numbers(leaf: jax.Array) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return jax.tree.map(numbers, tree)


def member_of(tree: PyTree, index: int) -> PyTree:
    """Return one member of a stacked tree, ``comparable``; indexed in NumPy, which compiles nothing."""
    return population.member(comparable(tree), index)


def assert_equal(actual: PyTree, expected: PyTree) -> None:
    """Raise AssertionError unless two trees agree bit for bit."""
    chex.assert_trees_all_equal(comparable(actual), comparable(expected))


def assert_close(actual: PyTree, expected: PyTree, tolerance: float = 1e-5) -> None:
    """Raise AssertionError unless two trees agree within the tolerance, relative or absolute."""
    chex.assert_trees_all_close(comparable(actual), comparable(expected), rtol=tolerance, atol=tolerance)


def assert_close_but_for_rounding(actual: PyTree, expected: PyTree, rounded: PyTree) -> None:
    """Raise AssertionError unless two trees agree within 1e-5 and ``ROUNDINGS`` times the difference that rounding makes to a leaf.

    Args:
      actual, expected: the same numbers by two programs, which round differently.
      rounded: ``expected`` by the same program, from parameters that are off by one rounding.
    """

    def without_rounding(actual: np.ndarray, expected: np.ndarray, rounded: np.ndarray) -> np.ndarray:
        if not actual.size or not np.issubdtype(actual.dtype, np.inexact):
            return actual
        most = ROUNDINGS * np.max(np.abs(rounded - expected))
        return actual - np.clip(actual - expected, -most, most)

    trees = (comparable(tree) for tree in (actual, expected, rounded))
    assert_close(jax.tree.map(without_rounding, *trees), expected)


def assert_finite(tree: PyTree) -> None:
    """Raise AssertionError where a tree holds NaN or infinity."""
    chex.assert_tree_all_finite(comparable(tree))
