"""Figures of models with maps of codes: what is used, what maps look like, and what the prior makes of them.

Of series and vectors there are lines in place of images (``_code_lines``).
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from vaex.core import Batch, DrawFigure, PyTree, Variables
from vaex.models.codebooks import _code_lines as code_lines
from vaex.models.codebooks._code_lines import TEMPERATURES
from vaex.models.codebooks._code_maps import CodeMaps, DrawCodes
from vaex.plots.records import Bars, Grid
from vaex.quantizers import perplexity

SHOWN = 8  # images in a figure
COMPLETED = 4  # draws for each of them


def figures(vq: CodeMaps, draw: DrawCodes) -> Mapping[str, DrawFigure]:
    """The figures of a model whose second stage draws codes by ``draw`` (see ``_code_prior``)."""

    def used(index: int) -> DrawFigure:
        return lambda key, variables, hparams, batch: draw_use(vq, variables, index)

    usage = {name: used(index) for index, name in enumerate(vq.names("code_usage"))}
    if len(vq.spec.shape) < 3:
        return {**usage, **code_lines.figures(vq, draw)}
    return usage | {
        "code_maps": lambda key, variables, hparams, batch: draw_maps(vq, variables, hparams, batch),
        "temperatures": lambda *args: draw_temperatures(vq, draw, *args),
        "completions": lambda *args: draw_completions(vq, draw, vq.n // 2, "First half of the codes kept", *args),
    }


def level_figures(vq: CodeMaps, draw: DrawCodes) -> Mapping[str, DrawFigure]:
    """The same for several levels, and what the top one decides."""
    if len(vq.spec.shape) < 3:
        return figures(vq, draw)
    top, title = vq.levels[-1].stop, "Codes of the top level kept"
    drawn_figures = {**figures(vq, draw), "lower_levels": lambda *args: draw_completions(vq, draw, top, title, *args)}
    return {
        **drawn_figures,
        "top_edits": lambda key, variables, hparams, batch: draw_edits(vq, variables, hparams, batch),
    }


def draw_edits(vq: CodeMaps, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
    """Images with the top level's codes of another one, and with all but these of another one."""
    x, top = batch["x"][:SHOWN], vq.levels[-1].stop
    codes = jax.jit(vq.encode)(variables.state["params"], variables.state["state"], hparams, x).codes()
    other = jnp.roll(codes, -1, axis=0)
    swapped = [jnp.concatenate([a[:, :top], b[:, top:]], axis=1) for a, b in ((other, codes), (codes, other))]
    images = mean_images(vq, variables, hparams, jnp.concatenate([codes, *swapped])).reshape(3, *x.shape)
    names = ("original", "another", "reconstruction", "top level of the other", "lower levels of the other")
    return Grid(jnp.stack([x, jnp.roll(x, -1, axis=0), *images]), names, title="What each level decides")


def draw_use(vq: CodeMaps, variables: Variables, index: int) -> Bars:
    """The shares of a level's codes over the last hundred batches of training, the largest first; the mean over codebooks."""
    use = variables.state["state"][f"level_{index}"]["use"]
    heights = jnp.mean(-jnp.sort(-use, axis=-1), axis=0)
    title = f"Use of the codes: perplexity {float(jnp.mean(perplexity(use))):.1f} of {vq.quantizer.codes}"
    return Bars(heights, (), "codes, the most used first", "share", title)


def draw_maps(vq: CodeMaps, variables: Variables, hparams: PyTree, batch: Batch) -> Grid:
    """Images over their maps; colours are the three principal components of the codes' vectors, so like codes look alike."""
    x = batch["x"][:SHOWN]
    chosen = jax.jit(vq.encode)(variables.state["params"], variables.state["state"], hparams, x)
    shape = (*x.shape[:3], 3)
    rows, names = [jnp.broadcast_to(x, shape)], ["original"]
    for index in reversed(range(len(vq.levels))):
        codes = chosen.quantized[index].codes
        rows.append(jax.image.resize(colors(codes), shape, "nearest"))
        names.append("codes, {}x{}".format(*codes.shape[1:3]))
    return Grid(jnp.stack(rows), tuple(names), title="Maps of codes, each code by its vector's principal components")


def colors(vectors: jax.Array) -> jax.Array:
    """Vectors [..., d] as colours [..., 3] in [0, 1]: their first three principal components, each over its range.

    Example:
      >>> colors(jnp.array([[0.0], [1.0], [4.0]])).shape
      (3, 3)
    """
    flat = vectors.reshape(-1, vectors.shape[-1])
    centred = flat - jnp.mean(flat, axis=0)
    directions = jnp.linalg.svd(centred, full_matrices=False)[2][:3]
    parts = jnp.pad(centred @ directions.T, ((0, 0), (0, 3 - len(directions))))
    least, most = jnp.min(parts, axis=0), jnp.max(parts, axis=0)
    return ((parts - least) / jnp.maximum(most - least, 1e-6)).reshape(*vectors.shape[:-1], 3)


def mean_images(vq: CodeMaps, variables: Variables, hparams: PyTree, codes: jax.Array) -> jax.Array:
    """Mean images of codes [n, all], in [0, 1]."""
    px = jax.jit(vq.decode)(variables.state["params"], variables.state["state"], hparams, codes)
    return jnp.clip(px.mean, 0.0, 1.0)


def draw_temperatures(
    vq: CodeMaps, draw: DrawCodes, key: jax.Array, variables: Variables, hparams: PyTree, batch: Batch
) -> Grid:
    """Samples of the prior, the same noise at each temperature."""
    drawn = [draw(key, variables, SHOWN, temperature, None, None) for temperature in TEMPERATURES]
    images = [mean_images(vq, variables, hparams, codes) for codes in drawn]
    return Grid(jnp.stack(images), tuple(f"{t:g}" for t in TEMPERATURES), title="Samples by temperature")


def draw_completions(
    vq: CodeMaps,
    draw: DrawCodes,
    kept: int,
    subject: str,
    key: jax.Array,
    variables: Variables,
    hparams: PyTree,
    batch: Batch,
) -> Grid:
    """Images whose first ``kept`` codes stay, the rest drawn from the prior; with their own label, if it reads these."""
    few = {name: values[:SHOWN] for name, values in batch.items()}
    x, n = few["x"], len(few["x"])
    codes = jax.jit(vq.encode)(variables.state["params"], variables.state["state"], hparams, x).codes()
    prefix, label = jnp.tile(codes[:, :kept], (COMPLETED, 1)), few.get("y")
    label = None if label is None else jnp.concatenate([jnp.asarray(label)] * COMPLETED)
    drawn = draw(key, variables, COMPLETED * n, hparams.sample_temperature, label, prefix)
    images = mean_images(vq, variables, hparams, jnp.concatenate([codes, drawn])).reshape(
        COMPLETED + 1, n, *x.shape[1:]
    )
    names = ("original", "reconstruction", *["completion"] * COMPLETED)
    return Grid(jnp.concatenate([x[None], images]), names, title=f"{subject}, the rest drawn")
