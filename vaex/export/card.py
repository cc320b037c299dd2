"""README.md of an export: what the functions take and return, and how to call them without vaex."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vaex.export.functions import BATCH, Exportable, Function, Value


def card(model: Exportable, functions: Sequence[Function], written: Mapping[str, Sequence[str]]) -> str:
    """Return the text of README.md, with the front matter of Hugging Face's model cards.

    Args:
      model: that is exported.
      functions: its functions.
      written: format -> names of its files.
    """
    name = str(model.described.get("model", "model"))
    parts = [
        "---\nlibrary_name: vaex\ntags:\n- variational-autoencoder\n- jax\n---",
        f"# {name} on {model.spec.name}",
        f"Trained for {model.step} steps; p(x|z): {model.recipe.likelihood.title}. b is a batch of any size. export.json holds "
        "this table for programs.",
        _table(functions),
    ]
    if "stablehlo" in written:
        parts.append(
            f"`pip install jax flatbuffers`, then, on CPU, CUDA or TPU:\n\n```python\n{snippet(functions[0])}\n```"
        )
    if "onnx" in written:
        parts.append(f"{', '.join(written['onnx'])}: the same names of inputs and outputs, for ONNX runtimes.")
    if "safetensors" in written:
        parts.append("model.safetensors: parameters and state by name; config.json: options and hyperparameters.")
    return "\n\n".join(parts) + "\n"


def snippet(function: Function) -> str:
    """Return a program that loads a function and calls it on three examples."""
    arguments = [_text_of_argument(value) for value in function.takes.values()]
    return "\n".join(
        [
            "import numpy as np",
            "from jax import export",
            f'{function.name} = export.deserialize(open("{function.name}.stablehlo", "rb").read()).call',
            f"results = {function.name}({', '.join(arguments)})  # {', '.join(function.takes)}",
            "print({name: array.shape for name, array in results.items()})",
        ]
    )


def _text_of_argument(value: Value) -> str:
    shape = tuple(3 if axis == BATCH else axis for axis in value.shape)
    return f"np.zeros({shape}, np.{value.dtype})"


def _table(functions: Sequence[Function]) -> str:
    rows = ["| function | | name | shape | dtype | |", "|---|---|---|---|---|---|"]
    for function in functions:
        for way, values in (("takes", function.takes), ("returns", function.returns)):
            for name, value in values.items():
                shape = ", ".join(map(str, value.shape))
                meaning = value.meaning.replace("|", "\\|")
                rows.append(f"| {function.name} | {way} | {name} | [{shape}] | {value.dtype} | {meaning} |")
    return "\n".join(rows)
