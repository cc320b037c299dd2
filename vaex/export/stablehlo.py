"""Functions as StableHLO with a batch of any size, which jax runs on CPU, CUDA and TPU without vaex."""

from __future__ import annotations

import importlib.util

import jax
from jax import export

from vaex.errors import MissingPackageError
from vaex.export.functions import Function
from vaex.ops.platforms import plain_lowering

PLATFORMS = ("cpu", "cuda", "tpu")


def require_flatbuffers() -> None:
    """Raise MissingPackageError unless jax can write and read its artefacts."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise MissingPackageError(
            'export: needs the package flatbuffers, not installed here; run: pip install "vaex-jax[export]"'
        )


def lower(function: Function) -> export.Exported:
    """Return the function, lowered for ``PLATFORMS`` with a symbolic batch; ``.serialize()`` makes bytes of it.

    The program is that of no platform in particular: none of ``vaex.ops``' choices for the CPU are in it.
    """

    def call(*arrays: jax.Array) -> dict[str, jax.Array]:  # new each time, so that nothing traced before is reused
        return function.call(*arrays)

    with plain_lowering():
        return export.export(jax.jit(call), platforms=PLATFORMS)(*function.symbolic_arguments())
