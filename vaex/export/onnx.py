"""Functions as ONNX models, converted by jax2onnx and compared by onnxruntime before anything is kept."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import pathlib
import warnings

import jax
import numpy as np

from vaex.errors import MissingPackageError, UserError
from vaex.export.functions import Function
from vaex.ops.platforms import plain_lowering

BATCH_SIZES = (1, 7)  # of the comparison
TOLERANCE = 1e-4  # of the largest result


def require_onnx() -> None:
    """Raise MissingPackageError unless converter and runtime are installed."""
    missing = [name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"export: the format onnx needs {' and '.join(missing)}, not installed here; run: "
            'pip install "vaex-jax[train,onnx]", in an environment of its own, since jax2onnx needs an older orbax-checkpoint'
        )


def write_onnx(path: pathlib.Path, function: Function) -> None:
    """Convert a function whose batch is of any size, and compare the model's numbers with the function's.

    Raises: UserError where the converter or the runtime lacks an operation, or the numbers differ.
    """
    jax2onnx = importlib.import_module("jax2onnx")

    outputs = list(function.returns)

    def call(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        results = function.call(*arrays)
        return tuple(results[name] for name in outputs)

    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    try:
        with plain_lowering(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jax2onnx.to_onnx(
                call,
                function.symbolic_arguments(),
                model_name=function.name,
                return_mode="file",
                output_path=str(path),
                input_names=list(function.takes),
                output_names=outputs,
            )
        _compare(path, function)
    except UserError:
        raise
    except Exception as error:  # of many kinds: operations that converter or runtime lack
        reason = " ".join(str(error).split())
        raise UserError(
            f"export: {function.name} of this model cannot be converted to onnx ({type(error).__name__}: {reason:.160}); leave "
            "onnx out of formats"
        ) from error


def _compare(path: pathlib.Path, function: Function) -> None:
    onnxruntime = importlib.import_module("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for size in BATCH_SIZES:
        arrays = function.arguments(np.random.default_rng(size), size)
        expected = jax.device_get(function.call(*arrays.values()))
        for name, result in zip(expected, session.run(list(expected), arrays), strict=True):
            reference = np.asarray(expected[name], np.float64)
            difference, largest = np.abs(result - reference).max(), max(1.0, np.abs(reference).max())
            if result.shape != reference.shape or not difference <= TOLERANCE * largest:
                raise UserError(
                    f"export: {name} of {function.name} differs by {difference:.2g} between jax and onnx at batch size {size}; "
                    "leave onnx out of formats"
                )
