"""Pages as files: content, script and style in one HTML file, arrays as base64."""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

import vaex
from vaex import files
from vaex.core import EvaluationKey
from vaex.errors import UserError
from vaex.evaluation.examples import SEED
from vaex.page.content import (
    DRAWN_SAMPLES,
    PATH_POINTS,
    PLANE_EXAMPLES,
    PLANE_POINTS,
    SLIDERS,
    TABULATED_PAIRS,
    TABULATED_SLIDERS,
    Codes,
    Decoder,
    Shown,
    decoder_of,
    encoded,
    originals,
    plane_of,
    reads_labels,
    samples_in_page,
    shown_range,
    sliders,
    tabulated,
)

DEFAULT_EXAMPLES = 12
ASSETS = "assets"


class _Arrays:
    """Arrays one after the other, each at a multiple of four bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, array: np.ndarray, dtype: str) -> dict[str, Any]:
        """Append an array; return where it lies, as JSON."""
        content = np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()
        place = {"dtype": dtype, "offset": self._size, "length": int(array.size), "shape": list(array.shape)}
        self._parts += [content, bytes(-len(content) % 4)]
        self._size += len(content) + (-len(content) % 4)
        return place

    def base64(self) -> str:
        """Return all of them as text."""
        return base64.b64encode(b"".join(self._parts)).decode("ascii")


def write_page(
    model: Shown,
    path: str | os.PathLike[str],
    x: np.ndarray,
    y: np.ndarray | None = None,
    *,
    examples: int = DEFAULT_EXAMPLES,
    kl: Sequence[float] | None = None,
    title: str | None = None,
) -> pathlib.Path:
    """Write a page on which a trained decoder runs in a browser, from a file and without a network.

    Args:
      model: whose decoder it is.
      path: of the file, whose name ends in .html.
      x: stored examples, [n, *spec.shape]; ranges and marks on the plane are of all, the first are shown.
      y: their labels, [n], where there are any.
      examples: how many are shown, at least 2.
      kl: nats of each latent variable over a split; by default over x.
      title: of the page.
    Returns: the path.
    Raises: UserError for another ending, too few examples, or a model whose codes are integers.
    """
    target = pathlib.Path(path).expanduser()
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"page: {path} does not end in .html; give the name of a file such as page.html")
    if not 2 <= examples <= len(x):
        raise UserError(f"page: examples={examples}, expected 2 to {len(x)}, the number of examples that are there")
    codes = encoded(model, x, y)
    decoder = decoder_of(model, codes)
    arrays = _Arrays()
    content = _content(model, decoder, codes, originals(model.spec, x[:examples]), kl, arrays)
    content["title"] = title or f"{model.described.get('model', 'model')} on {model.spec.name}"
    content["range"] = list(shown_range(model.spec, originals(model.spec, x)))
    content["blob"] = arrays.base64()
    files.make_writable(target.parent)
    files.write_bytes(target, _html(content).encode())
    return target


def _content(
    model: Shown, decoder: Decoder, codes: Codes, shown: np.ndarray, kl: Sequence[float] | None, arrays: _Arrays
) -> dict[str, Any]:
    spec, live = model.spec, decoder.program is not None
    controls = sliders(model, codes, kl)
    hidden = max(0, len(controls) - (SLIDERS if live else TABULATED_SLIDERS))
    controls = controls[: len(controls) - hidden]
    plane = plane_of(controls)
    count = len(shown) if live else min(len(shown), TABULATED_PAIRS)
    labelled, labels = reads_labels(model), model.recipe.labels
    decoded = _program(decoder, arrays) if live else _table(decoder, controls, codes, plane, arrays)
    in_page = samples_in_page(model, decoder)
    key = jax.random.fold_in(jax.random.key(SEED), EvaluationKey.PRIOR_SAMPLES)
    return {
        "vaex": vaex.__version__,
        "facts": _facts(model, hidden),
        "shape": list(spec.shape),
        "decoder": decoded,
        "controls": controls,
        "hidden": hidden,
        "examples": {
            "count": count,
            "x": arrays.add(shown[:count], "float32"),
            "codes": arrays.add(codes.mean[:count], "float32"),
            "labels": None if codes.labels is None else [int(label) for label in codes.labels[:count]],
        },
        "labels": [_label(spec.label_names, index) for index in range(labels.classes)] if labels and labelled else [],
        "plane": plane,
        "plane_points": PLANE_POINTS,
        "path_points": PATH_POINTS,
        "marks": {
            "codes": arrays.add(codes.mean[:PLANE_EXAMPLES], "float32"),
            "labels": None if codes.labels is None else [int(label) for label in codes.labels[:PLANE_EXAMPLES]],
        },
        "samples": None if in_page else arrays.add(np.asarray(model.sample(key, DRAWN_SAMPLES)), "float32"),
    }


def _label(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)


def _facts(model: Shown, hidden: int) -> list[str]:
    described = model.described
    facts = [f"{model.step:,} steps", f"likelihood: {model.recipe.likelihood.title}"]
    if "seed" in described:
        facts.append(f"seed {described['seed']}")
    if hidden:
        facts.append(
            f"latents without a slider, the least informative: {hidden}; they keep the values of the code that is shown"
        )
    return facts


def _program(decoder: Decoder, arrays: _Arrays) -> dict[str, Any]:
    program = decoder.program
    assert program is not None
    constants = []
    for number, array in program.constants.items():
        dtype = decoder.weights if np.asarray(array).dtype.kind not in "iub" and array.size > 1 else "float32"
        constants.append({"number": number, **arrays.add(np.asarray(array, np.float32), dtype)})
    steps = [
        {"name": step.name, "takes": step.takes, "result": step.result, "shape": step.shape, **step.attributes}
        for step in program.instructions
    ]
    inputs = [list(shape) for shape in program.inputs]
    return {
        "kind": "program", "inputs": inputs, "constants": constants, "steps": steps, "result": program.result,
        "weights": decoder.weights,
    }  # fmt: skip


def _table(
    decoder: Decoder, controls: list[dict[str, Any]], codes: Codes, plane: Sequence[int], arrays: _Arrays
) -> dict[str, Any]:
    """Decoded codes as integers of 16 bits between their least and largest values."""
    z = tabulated(controls, codes, plane)
    label = 0 if codes.labels is None else int(codes.labels[0])
    blocks = np.array_split(z, -(-len(z) // 100))
    values = np.concatenate([decoder.call(block, np.full(len(block), label, np.int32)) for block in blocks])
    values = values.reshape(len(z), -1)
    low, high = float(values.min()), float(values.max())
    scale = (high - low) / 65535 or 1.0
    return {
        "kind": "table",
        "missing": decoder.missing,
        "codes": arrays.add(z, "float32"),
        "values": arrays.add(np.round((values - low) / scale), "uint16"),
        "low": low,
        "scale": scale,
    }


def _html(content: dict[str, Any]) -> str:
    folder = importlib.resources.files("vaex.page") / ASSETS
    texts = {
        name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "program.js", "page.js")
    }
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    page = texts["page.html"].replace("{{title}}", html.escape(content["title"]))
    page = page.replace("{{style}}", texts["page.css"]).replace("{{script}}", texts["program.js"] + texts["page.js"])
    return page.replace("{{data}}", data)
