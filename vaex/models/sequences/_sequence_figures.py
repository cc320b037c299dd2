"""Figures of models of sequences: predictions beside the truth, roll-outs, and beliefs as evidence comes in."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaex.core import Batch, Distribution, Predict, PyTree, Variables
from vaex.evaluation.prediction import SAMPLES, context_frames, horizons
from vaex.evaluation.series import band_panels
from vaex.plots.records import Curves, Grid

PREDICTED, FOLLOWED, WAYS = 6, 3, 3  # sequences of each figure, and paths that are drawn from where evidence ends


def draw_predictions(predict: Predict, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
    """Draw for each horizon the truth, what two samples of the latents give, and the mean of many; a row for each sequence."""
    x = jnp.asarray(batch["x"])[:PREDICTED]
    start = context_frames(x.shape[1])
    columns, labels = [x[:, start - 1]], ["last seen"]
    for steps in horizons(x.shape[1]):
        drawn = jax.jit(lambda v, h, x, n=steps: predict(key, v, h, {"x": x}, n, SAMPLES).mean)
        means = drawn(variables, hparams, x[:, :start])
        columns += [x[:, start - 1 + steps], means[0], means[1], jnp.mean(means, axis=0)]
        labels += [f"truth +{steps}", f"a draw +{steps}", f"another +{steps}", f"mean +{steps}"]
    return Grid(_images(jnp.stack(columns, axis=1)), (), tuple(labels), f"Predictions after {start} frames")


def draw_roll_outs(
    follow: Callable[[jax.Array, Variables, PyTree, Batch, int], Distribution],
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Grid:
    """Some sequences, each above several ways on from where its evidence ends, one frame after the other."""
    x = jnp.asarray(batch["x"])[:FOLLOWED]
    length = x.shape[1]
    start = context_frames(length)
    if start == length:
        return Grid(_images(x), title="Sequences of one frame, which nothing follows")
    ways = jax.jit(lambda key, v, h, x: follow(key, v, h, {"x": x}, length - start).mean)
    rows, labels = [], []
    samples = [ways(jax.random.fold_in(key, way), variables, hparams, x[:, :start]) for way in range(WAYS)]
    for index in range(len(x)):
        rows += [x[index], *(jnp.concatenate([x[index, :start], way[index]]) for way in samples)]
        labels += ["truth", *(f"way {way + 1}" for way in range(WAYS))]
    columns = tuple(str(time + 1) if time < start else f"+{time + 1 - start}" for time in range(length))
    return Grid(_images(jnp.stack(rows)), tuple(labels), columns, f"Ways on after {start} frames")


def draw_series(
    follow: Callable[[jax.Array, Variables, PyTree, Batch, int], Distribution],
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> list[Curves]:
    """Some series, and what is predicted of their end: the mean of many ways on, and the band of values drawn on them."""
    x = jnp.asarray(batch["x"])[:FOLLOWED]
    length = x.shape[1]
    start = min(context_frames(length), max(1, length // 2))

    @jax.jit
    def drawn(key: jax.Array, v: Variables, h: PyTree, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        def way(key: jax.Array) -> tuple[jax.Array, jax.Array]:
            path_key, value_key = jax.random.split(key)
            predicted = follow(path_key, v, h, {"x": x}, length - start)
            return predicted.mean, predicted.sample(value_key)

        return jax.vmap(way)(jax.random.split(key, SAMPLES))

    if start == length:
        return band_panels(x, x, title="Series of one step, which nothing follows")
    means, draws = drawn(key, variables, hparams, x[:, :start])
    return band_panels(x, jnp.mean(means, axis=0), draws, start=start, title=f"Predictions after {start} steps")


def draw_beliefs(
    reconstruct: Callable[[jax.Array, Variables, PyTree, Batch], jax.Array],
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Grid:
    """Some sequences, each above frames decoded of what is believed at each time, drawn twice.

    ``reconstruct``: (key, variables, hparams, batch) -> means [b, t, h, w, c] of latents that are drawn.
    """
    x = jnp.asarray(batch["x"])[:FOLLOWED]
    decoded = jax.jit(lambda key, v, h, x: reconstruct(key, v, h, {"x": x}))
    samples = [decoded(jax.random.fold_in(key, draw), variables, hparams, x) for draw in range(2)]
    rows = [row for index in range(len(x)) for row in (x[index], *(sample[index] for sample in samples))]
    columns = tuple(str(time + 1) for time in range(x.shape[1]))
    labels = ("seen", "believed", "believed") * len(x)
    return Grid(_images(jnp.stack(rows)), labels, columns, "Beliefs as evidence comes in")


def _images(x: jax.Array) -> np.ndarray:
    return np.clip(np.asarray(x), 0.0, 1.0)
