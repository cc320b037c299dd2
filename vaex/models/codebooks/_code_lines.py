"""Figures of codes of series and vectors: lines over steps or entries, at several temperatures and completed by the prior."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vaex.core import Batch, DrawFigure, PyTree, Variables
from vaex.models.codebooks._code_maps import CodeMaps, DrawCodes
from vaex.plots.records import Curves

TEMPERATURES = (0.5, 0.8, 1.0, 1.2)
SHOWN = 3  # examples, or samples, of a figure
COMPLETED = 3  # draws for each of them


def figures(vq: CodeMaps, draw: DrawCodes) -> Mapping[str, DrawFigure]:
    """The figures of a model of series or vectors whose second stage draws codes by ``draw``; none of tables."""
    if vq.spec.columns:
        return {}
    return {
        "temperatures": lambda *args: draw_temperatures(vq, draw, *args),
        "completions": lambda *args: draw_completions(vq, draw, *args),
    }


def draw_temperatures(
    vq: CodeMaps, draw: DrawCodes, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> list[Curves]:
    """Means of p(x|codes) at samples of the prior, a panel for each temperature, with the same noise."""
    panels = []
    for temperature in TEMPERATURES:
        codes = draw(key, variables, SHOWN, temperature, None, None)
        lines = {f"sample {index}": line for index, line in enumerate(_means(vq, variables, hparams, codes))}
        panels.append(_panel(vq, lines, f"{'' if panels else 'Samples by temperature: '}{temperature:g}"))
    return panels


def draw_completions(
    vq: CodeMaps, draw: DrawCodes, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> list[Curves]:
    """Examples whose first half of the codes stays, the rest drawn from the prior: a panel for each, with its own label."""
    few = {name: values[:SHOWN] for name, values in batch.items()}
    codes = jax.jit(vq.encode)(variables.state["params"], variables.state["state"], hparams, few["x"]).codes()
    prefix, label = jnp.tile(codes[:, : vq.n // 2], (COMPLETED, 1)), few.get("y")
    label = None if label is None else jnp.concatenate([jnp.asarray(label)] * COMPLETED)
    drawn = draw(key, variables, COMPLETED * len(codes), hparams.sample_temperature, label, prefix)
    means = _means(vq, variables, hparams, jnp.concatenate([codes, drawn])).reshape(COMPLETED + 1, len(codes), -1)
    panels = []
    for index, observed in enumerate(_lines(vq, few["x"])):
        names = ("reconstruction", *(f"completion {draw + 1}" for draw in range(COMPLETED)))
        lines = {"observed": observed, **dict(zip(names, means[:, index], strict=True))}
        panels.append(_panel(vq, lines, "" if panels else "First half of the codes kept, the rest drawn"))
    return panels


def _means(vq: CodeMaps, variables: Variables, hparams: PyTree, codes: jax.Array) -> np.ndarray:
    """Lines [n, t] of means of p(x|codes) at codes [n, all]."""
    px = jax.jit(vq.decode)(variables.state["params"], variables.state["state"], hparams, codes)
    return _lines(vq, px.mean)


def _lines(vq: CodeMaps, x: ArrayLike) -> np.ndarray:
    """Examples as lines [n, t]: series by their first channel, vectors in standard deviations where they have columns."""
    values = np.asarray(x)
    if len(vq.spec.shape) == 2:
        return values[..., 0]
    return (values - np.array(vq.spec.location)) / np.array(vq.spec.scale) if vq.spec.location else values


def _panel(vq: CodeMaps, lines: Mapping[str, np.ndarray], title: str) -> Curves:
    channels, standardized = vq.spec.shape[-1], bool(vq.spec.location)
    if len(vq.spec.shape) == 1:
        names = "dimension", "standardised value" if standardized else "value"
    else:
        names = "step", f"channel 0 of {channels}" if channels > 1 else "value"
    return Curves(np.arange(vq.spec.shape[0]), lines, *names, title)
