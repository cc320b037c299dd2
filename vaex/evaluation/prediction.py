"""Predictive log-likelihoods of sequences, log p(x_{t+k} | x_{<=t}), of models and of two baselines that have no latents.

Axes: b batch, k samples, n sequences, t time, h w c image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vaex.distributions import Bernoulli
from vaex.ops.log_sum_exp import log_sum_exp

if TYPE_CHECKING:
    from vaex.core import Predict, PyTree, Variables

HORIZONS = (1, 5, 10)  # frames ahead
SAMPLES = 100


def horizons(length: int) -> tuple[int, ...]:
    """Return those of ``HORIZONS`` that leave at least one context frame in a sequence of this length.

    Example:
      >>> horizons(16), horizons(8), horizons(1)
      ((1, 5, 10), (1, 5), ())
    """
    return tuple(steps for steps in HORIZONS if steps < length)


def context_frames(length: int) -> int:
    """Number of frames that a model is given before it predicts: the same for all ``horizons`` of a sequence of this length.

    Example:
      >>> context_frames(16), context_frames(8)
      (6, 3)
    """
    return length - max(horizons(length), default=0)


class PredictiveLogLikelihood(Protocol):
    """Returns the log-likelihoods, [b] nats, of frames [b, ...] that follow sequences x [b, t, ...]; ``keys`` are [b]."""

    def __call__(
        self, keys: jax.Array, variables: Variables, hparams: PyTree, x: jax.Array, frame: jax.Array, /
    ) -> jax.Array: ...


def predictive_log_likelihood(predict: Predict, *, steps: int, num_samples: int = SAMPLES) -> PredictiveLogLikelihood:
    r"""Return a jitted (keys [b], variables, hparams, x [b, t, ...], frame [b, ...]) -> [b]: log-likelihoods of frames, in nats.

    :math:`\log \frac1K \sum_i p(x_{t+k} | z^{(i)})` with :math:`z^{(i)}` from the model's prediction: in expectation a lower
    bound on log p(x_{t+k} | x_{<=t}), tighter as K grows. Each sequence draws with its own key.

    Args:
      predict: as in ``vaex.core.Sequences``.
      steps: k, frames ahead of the last of x.
      num_samples: K.
    """

    @jax.jit
    def log_likelihood(
        keys: jax.Array, variables: Variables, hparams: PyTree, x: jax.Array, frame: jax.Array
    ) -> jax.Array:
        def of_sequence(key: jax.Array, x: jax.Array, frame: jax.Array) -> jax.Array:
            predicted = predict(key, variables, hparams, {"x": x[None]}, steps, num_samples)
            return log_sum_exp(predicted.log_prob(frame[None]), axis=0)[0] - jnp.log(float(num_samples))

        return jax.vmap(of_sequence)(keys, x, frame)

    return log_likelihood


class Baselines(NamedTuple):
    """Two predictions of binary frames without latents, fitted to training sequences.

    ``flip``: steps -> probability that a pixel differs from the last frame's. ``mean`` [h, w, c]: probability that it is 1.
    """

    flip: dict[int, float]
    mean: np.ndarray

    def copy_last(self, last: ArrayLike, frame: ArrayLike, steps: int) -> np.ndarray:
        """Return log p, [b] nats, of frames [b, h, w, c] whose pixels are the last context frame's but for independent flips."""
        p = self.flip[steps]
        return _log_prob(np.where(np.asarray(last) > 0.5, 1.0 - p, p), frame)

    def independent(self, frame: ArrayLike) -> np.ndarray:
        """Return log p, [b] nats, of frames [b, h, w, c] with independent pixels of the training frames' mean."""
        return _log_prob(np.broadcast_to(self.mean, np.shape(frame)), frame)


def fit_baselines(x: ArrayLike, steps: Sequence[int]) -> Baselines:
    """Fit the baselines to binary training sequences by maximum likelihood, with Laplace smoothing.

    Args:
      x: [n, t, h, w, c], 0 or 1.
      steps: horizons, each below t; the flip probability of each is the share of pixels that differ, over all pairs of frames.
    Raises: ValueError for values other than 0 and 1, or a horizon of t or more.
    Example:
      >>> x = np.array([0, 0, 1, 1], np.float32).reshape(1, 4, 1, 1, 1)
      >>> baselines = fit_baselines(x, (1, 2))
      >>> baselines.flip, baselines.mean.ravel().tolist()
      ({1: 0.4, 2: 0.75}, [0.5])
    """
    x = np.asarray(x)
    if x.ndim != 5 or not np.isin(x, (0, 1)).all() or not all(0 < k < x.shape[1] for k in steps):
        raise ValueError(
            f"fit_baselines: x has shape {x.shape} and steps are {tuple(steps)}, expected [n, t, h, w, c] of 0 and 1, and steps "
            "from 1 to t - 1; binarise first"
        )
    white = x > 0.5
    flip = {k: float(_smoothed_share(np.sum(white[:, k:] != white[:, :-k]), white[:, k:].size)) for k in steps}
    frames = white.reshape(-1, *x.shape[2:])
    return Baselines(flip, _smoothed_share(np.sum(frames, axis=0), len(frames)))


def _smoothed_share(count: np.ndarray, total: int) -> np.ndarray:
    """Laplace's rule: (count + 1) / (total + 2)."""
    return (count + 1) / (total + 2)


def _log_prob(probability: np.ndarray, frame: ArrayLike) -> np.ndarray:
    """Return log p of binary frames [b, h, w, c] with independent pixels, [b] float64."""
    logits = np.log(probability) - np.log1p(-probability)
    return np.asarray(
        Bernoulli(jnp.asarray(logits, jnp.float32), 3).log_prob(jnp.asarray(frame, jnp.float32)), np.float64
    )
