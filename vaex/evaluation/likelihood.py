"""Log-likelihoods by importance sampling, streamed over samples and examples in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from vaex.ops.log_sum_exp import log_sum_exp

if TYPE_CHECKING:
    from vaex.core import Batch, ClassLogWeights, LogWeights, PyTree, Variables

SAMPLES_PER_CHUNK = 500


class Estimate(NamedTuple):
    """Mean over examples and its standard error; ``values`` [n] holds one value per example."""

    mean: float
    standard_error: float
    values: np.ndarray


def estimate(values: np.ndarray) -> Estimate:
    """Mean and standard error of independent values [n]; the error of a single value is NaN.

    Example:
      >>> estimate(np.array([1.0, 3.0]))[:2]
      (2.0, 1.0)
    """
    values = np.asarray(values, np.float64)
    error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return Estimate(float(np.mean(values)), error, values)


def estimate_over_batches(values: np.ndarray, sizes: np.ndarray) -> Estimate:
    """Mean of a statistic of batches [m], weighted by their sizes, and its standard error over batches; NaN for a single one.

    Batches are taken for independent and of nearly equal size. The mean estimates the statistic of a batch of that size: where
    it depends on the size, as a biased estimate or a perplexity does, so does the mean.

    Args:
      values: [m], of each batch.
      sizes: [m], examples of each.
    Returns: an ``Estimate`` whose ``values`` are those of the batches.
    Example:
      >>> estimate_over_batches(np.array([1.0, 3.0]), np.array([500, 500]))[:2]
      (2.0, 1.0)
    """
    over_batches = estimate(values)
    return over_batches._replace(mean=float(np.average(over_batches.values, weights=sizes)))


def streaming_importance_bound(
    log_weights: Callable[[jax.Array, int], jax.Array],
    key: jax.Array,
    num_samples: int,
    *,
    samples_per_chunk: int = SAMPLES_PER_CHUNK,
) -> jax.Array:
    r"""Importance-weighted bound :math:`\log \frac1K\sum_i w_i` over any number K of samples in constant memory.

    A running log-sum-exp over chunks of samples: the estimator of ``vaex.importance_bound`` of all K at once.

    Args:
      log_weights: draws k samples and returns their log p(x, z) - log q(z|x), [k, ...].
      key: root key; chunk i draws with ``fold_in(key, i)``.
      num_samples: K.
      samples_per_chunk: k of one call; the last chunk's surplus is left out of the sum.
    Returns: [...], nats.
    Raises: ValueError if either number is below 1.
    Example:
      >>> log_weights = lambda key, k: jnp.zeros((k, 2))
      >>> streaming_importance_bound(log_weights, jax.random.key(0), 1000)
      Array([0., 0.], dtype=float32)

    References: Burda, Grosse & Salakhutdinov 2016, eq. 8.
    """
    if num_samples < 1 or samples_per_chunk < 1:
        raise ValueError(
            f"streaming_importance_bound: num_samples={num_samples}, samples_per_chunk={samples_per_chunk}; expected >= 1"
        )
    size = min(samples_per_chunk, num_samples)
    shape = jax.eval_shape(lambda k: log_weights(k, size), key)

    def body(index: jax.Array, total: jax.Array) -> jax.Array:
        weights = log_weights(jax.random.fold_in(key, index), size)
        counted = (index * size + jnp.arange(size) < num_samples).reshape(-1, *(1,) * (weights.ndim - 1))
        chunk = log_sum_exp(jnp.where(counted, weights, -jnp.inf), axis=0)
        return jnp.logaddexp(total, chunk)

    start = jnp.full(shape.shape[1:], -jnp.inf, shape.dtype)
    chunks = -(-num_samples // size)
    return jax.lax.fori_loop(0, chunks, body, start) - jnp.log(float(num_samples)).astype(shape.dtype)


class LogLikelihood(Protocol):
    """Returns an importance bound of each example, [b] nats; of log weights [k, b, classes], [b, classes].

    ``key`` is one for the batch, or one for each example, [b].
    """

    def __call__(self, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, /) -> jax.Array: ...


def log_likelihood(
    log_weights: LogWeights | ClassLogWeights, *, num_samples: int, samples_per_chunk: int = SAMPLES_PER_CHUNK
) -> LogLikelihood:
    """Return a jitted (key, variables, hparams, batch) -> [b] nats: the K-sample importance bound of each example, in turn.

    The bound of an example depends on its key and on itself alone.

    Args:
      log_weights: as in ``vaex.core.Model``.
      num_samples: K.
      samples_per_chunk: samples decoded at once.
    """

    @jax.jit
    def bound(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> jax.Array:
        def bound_of_example(args: tuple[jax.Array, Batch]) -> jax.Array:
            example_key, example = args
            single = {name: value[None] for name, value in example.items()}

            def weights(chunk_key: jax.Array, k: int) -> jax.Array:
                return log_weights(chunk_key, variables, hparams, single, k)

            return streaming_importance_bound(weights, example_key, num_samples, samples_per_chunk=samples_per_chunk)[0]

        keys = key if key.ndim else jax.random.split(key, batch["x"].shape[0])
        return jax.lax.map(bound_of_example, (keys, batch))

    return bound


class WeightedLogLikelihood(NamedTuple):
    """Importance bound of each example, [b] nats, and the effective number of its samples, [b]."""

    bound: jax.Array
    effective_sample_size: jax.Array


def weighted_log_likelihood(
    log_weights: LogWeights, *, num_samples: int, samples_per_chunk: int = SAMPLES_PER_CHUNK
) -> Callable[[jax.Array, Variables, PyTree, Batch], WeightedLogLikelihood]:
    r"""Return ``log_likelihood`` that also gives the effective sample size :math:`(\sum_i w_i)^2 / \sum_i w_i^2` of each example.

    Args:
      log_weights, num_samples, samples_per_chunk: as for ``log_likelihood``.
    """

    def both(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch, k: int) -> jax.Array:
        weights = log_weights(key, variables, hparams, batch, k)
        return jnp.stack([weights, 2.0 * weights], axis=-1)

    moments = log_likelihood(both, num_samples=num_samples, samples_per_chunk=samples_per_chunk)

    def weighted(key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> WeightedLogLikelihood:
        first, second = jnp.moveaxis(moments(key, variables, hparams, batch), -1, 0)
        return WeightedLogLikelihood(first, num_samples * jnp.exp(2.0 * first - second))

    return weighted


def bits_per_dimension(nats: float, dimensions: int, *, levels: int, density: bool) -> float:
    r"""Bits per dimension of discrete data from a log-likelihood in nats.

    Args:
      nats: log-likelihood of one example.
      dimensions: values per example.
      levels: how many values a dimension can take.
      density: True where ``nats`` is a log density of values scaled to [0, 1] with uniform dequantisation noise, which bounds
        the probability of the cell of width 1/levels; False for a log-probability of the levels themselves.
    Example:
      >>> round(bits_per_dimension(-64 * math.log(256), 64, levels=256, density=False), 6)
      8.0

    References: Theis, van den Oord & Bethge 2016, section 3.1.
    """
    per_dimension = -nats / dimensions / math.log(2)
    return per_dimension + (math.log2(levels) if density else 0.0)
