"""Log-densities of many examples, of which a step of ``fit`` sees a few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from vaex.errors import UserError
from vaex.inference.supports import Parameters

Examples: TypeAlias = Any  # a pytree of arrays that lead with the examples
LogPrior: TypeAlias = Callable[[Parameters], jax.Array]  # one pytree of parameters -> scalar, nats
LogLikelihood: TypeAlias = Callable[[Parameters, Examples], jax.Array]  # parameters, m examples -> [m], nats


class Minibatches(NamedTuple):
    """Log-density of independent examples; made by ``minibatches``. A call gives that of all of them."""

    log_prior: LogPrior
    log_likelihood: LogLikelihood
    data: Examples
    size: int

    def __call__(self, parameters: Parameters) -> jax.Array:
        """Log prior, plus the log-likelihood of all examples; a scalar."""
        return self._value(parameters, self.data)

    def draw(self, key: jax.Array) -> Callable[[Parameters], jax.Array]:
        """Unbiased estimate of the log-density by ``size`` examples, drawn with replacement."""
        rows = jax.random.randint(key, (self.size,), 0, _count(self.data))
        batch = jax.tree.map(lambda leaf: leaf[rows], self.data)
        return lambda parameters: self._value(parameters, batch)

    def _value(self, parameters: Parameters, examples: Examples) -> jax.Array:
        count, given = _count(self.data), _count(examples)
        terms = jnp.asarray(self.log_likelihood(parameters, examples))
        if terms.shape != (given,):
            raise ValueError(
                f"minibatches: log_likelihood(parameters, examples) has shape {terms.shape}, expected ({given},): one value for "
                "each example"
            )
        return self.log_prior(parameters) + count / given * jnp.sum(terms)


def minibatches(log_prior: LogPrior, log_likelihood: LogLikelihood, data: Examples, *, size: int) -> Minibatches:
    """Log-density for ``fit`` whose gradients take ``size`` examples: n/size times their log-likelihood, the log prior once.

    ``fit`` and ``step`` draw other examples at each step; ``diagnose``, chains and bounds of the evidence take all.

    Args:
      log_prior: one pytree of parameters -> scalar, nats.
      log_likelihood: parameters and a pytree of m examples -> [m], nats.
      data: a pytree of arrays that lead with the n examples.
      size: of a batch, from 1 to n.
    Returns: a log-density of one pytree of parameters.
    Raises: UserError for arrays of other lengths or a size out of range; ValueError (at the call) for a log-likelihood of another
      shape.
    Example:
      >>> x = 3.0 + jax.random.normal(jax.random.key(0), (1000,))
      >>> density = minibatches(lambda m: -0.005 * m**2, lambda m, x: -0.5 * (x - m) ** 2, x, size=20)
      >>> bool(jnp.isclose(density(2.0), -0.02 - 0.5 * jnp.sum((x - 2.0) ** 2), rtol=1e-4))
      True

    References: Hoffman, Blei, Wang & Paisley 2013, section 2.3.
    """
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or () in lengths:
        raise UserError(f"minibatches: arrays of data lead with {sorted(lengths)}, expected one number of examples")
    density = Minibatches(log_prior, log_likelihood, jax.tree.map(jnp.asarray, data), size)
    if not 1 <= size <= _count(density.data):
        raise UserError(f"minibatches: size is {size}, expected 1 to {_count(density.data)}, the number of examples")
    return density


def _count(examples: Examples) -> int:
    return jax.tree.leaves(examples)[0].shape[0]
