"""Exported functions beside the trained model that they were made of."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np
from jax import export

from vaex.api.trained_model import TrainedModel
from vaex.export.functions import Function


def expected(model: TrainedModel, function: Function, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the methods of a trained model give for the arguments of an exported function."""
    labels = arrays.get("labels")
    if function.name == "encode":
        posterior = model.encode(arrays["x"], labels)
        results = {"mean": posterior.mean}
        if "standard_deviation" in function.returns:
            results["standard_deviation"] = np.sqrt(posterior.variance)
    elif function.name == "decode":
        results = {"mean": model.decode(arrays["z"], labels).mean}
    else:
        key = jax.random.wrap_key_data(arrays["key"])
        results = {"mean": model.sample(key, len(arrays["labels" if "labels" in arrays else "slots"]), labels)}
    return {name: np.asarray(value) for name, value in results.items()}


def deserialized(path: pathlib.Path) -> export.Exported:
    """The function of an artefact."""
    return export.deserialize(bytearray(path.read_bytes()))


def assert_like(got: dict[str, Any], wanted: dict[str, np.ndarray]) -> None:
    """The same numbers, but for the rounding of another order of sums."""
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert got[name].shape == array.shape and got[name].dtype == array.dtype, name
        assert np.all(np.isfinite(array)), name
        np.testing.assert_allclose(np.asarray(got[name]), array, rtol=2e-5, atol=2e-5, err_msg=name)
