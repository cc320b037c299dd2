"""Parameters and state as safetensors, and config.json beside them, as repositories of Hugging Face have them."""

from __future__ import annotations

import importlib.util
import json
import pathlib

import jax
import numpy as np

from vaex import files
from vaex.core import Variables
from vaex.errors import MissingPackageError
from vaex.export.functions import Exportable

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def require_safetensors() -> None:
    """Raise MissingPackageError unless safetensors is installed."""
    if importlib.util.find_spec("safetensors") is None:
        raise MissingPackageError(
            'export: needs the package safetensors, not installed here; run: pip install "vaex-jax[export]"'
        )


def named_arrays(variables: Variables) -> dict[str, np.ndarray]:
    """Return parameters and state by their paths.

    Example:
      >>> list(named_arrays(Variables({"vae": {"decoder": {"bias": np.zeros(2)}}})))
      ['params.vae.decoder.bias']
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {name: np.ascontiguousarray(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}


def write_weights(folder: pathlib.Path, model: Exportable, functions: dict[str, object]) -> list[str]:
    """Write the arrays, and what they belong to; return the names of the files."""
    from safetensors.numpy import save

    (folder / WEIGHTS).write_bytes(save(named_arrays(model.variables), metadata={"format": "np"}))
    content = {
        "model_type": "vaex",
        "architectures": [str(model.described.get("model", ""))],
        **model.described,
        "data": json.loads(json.dumps(model.spec._asdict())),
        "latent_shape": list(model.latent_shape),
        "likelihood": model.recipe.likelihood.title,
        "step": model.step,
        "functions": functions,
    }
    files.write_json(folder / CONFIG, content)
    return [WEIGHTS, CONFIG]
