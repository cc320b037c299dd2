"""The folder of an export: programs, weights, and what they take and return."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

import vaex
from vaex import files
from vaex.errors import UserError, nearest
from vaex.export import onnx, stablehlo, weights
from vaex.export.card import card
from vaex.export.functions import WHAT, Exportable, Function, Value, functions

FORMATS = ("stablehlo", "safetensors", "onnx")


def export(
    model: Exportable,
    directory: str | os.PathLike[str],
    *,
    what: Sequence[str] = WHAT,
    formats: Sequence[str] = ("stablehlo", "safetensors"),
    tell: Callable[[str], None] = lambda text: None,
) -> pathlib.Path:
    """Write a trained model so that other programs can use it; ``TrainedModel.export`` describes the arguments.

    Args:
      model: what is exported.
      directory: a folder that is not there yet, or is empty.
      what: names of functions.
      formats: of ``FORMATS``.
      tell: called with a line before each part of the work.
    Returns: the folder.
    Raises: UserError for a folder that holds something, names that are not known, a missing package, or a model that a format
      cannot hold.
    """
    what, formats = _names("what", what, WHAT), _names("formats", formats, FORMATS)
    if formats == ("onnx",) and what == ("sample",):
        raise UserError(
            "export: onnx has no random numbers of jax; give what=('encode', 'decode'), or formats=('stablehlo',)"
        )
    checks = {
        "stablehlo": stablehlo.require_flatbuffers,
        "safetensors": weights.require_safetensors,
        "onnx": onnx.require_onnx,
    }
    for name in formats:
        checks[name]()
    chosen = functions(model, what)
    with _new_folder(directory) as folder:
        written: dict[str, list[str]] = {}
        for name in formats:
            if name == "safetensors":
                tell(f"export: {weights.WEIGHTS}")
                written[name] = weights.write_weights(folder, model, _described(chosen))
                continue
            for function in chosen:
                if name == "onnx" and function.name == "sample":
                    continue
                file = f"{function.name}.{name}"
                tell(f"export: {file}")
                if name == "onnx":
                    onnx.write_onnx(folder / file, function)
                else:
                    (folder / file).write_bytes(stablehlo.lower(function).serialize())
                written.setdefault(name, []).append(file)
        content = {
            "vaex": vaex.__version__,
            "jax": jax.__version__,
            "platforms": list(stablehlo.PLATFORMS),
            "files": written,
            "functions": _described(chosen),
        }
        files.write_json(folder / "export.json", content)
        (folder / "README.md").write_text(card(model, chosen, written))
    return pathlib.Path(directory).expanduser()


def _names(argument: str, given: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return names without repetition.

    Raises: UserError for one that is not known, for none, or for text, which is a sequence of letters.
    """
    names = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    for name in names:
        if name not in known:
            raise UserError(f"export: {argument} holds {name!r}; {nearest(str(name), known)}")
    if not names:
        raise UserError(f"export: {argument} is empty; give one or several of {', '.join(known)}")
    return names


def _described(functions: Sequence[Function]) -> dict[str, Any]:
    """Names, shapes, dtypes and meanings of what functions take and return, as JSON."""

    def values(named: dict[str, Value]) -> dict[str, Any]:
        return {
            name: {"shape": list(value.shape), "dtype": value.dtype, "meaning": value.meaning}
            for name, value in named.items()
        }

    return {
        function.name: {"takes": values(function.takes), "returns": values(function.returns)} for function in functions
    }


@contextlib.contextmanager
def _new_folder(directory: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Yield a folder that becomes ``directory`` when the block succeeds, and is removed when it raises."""
    target = pathlib.Path(directory).expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"export: {directory} holds something already; choose another directory")
    files.make_writable(target.parent)
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    folder.mkdir()
    try:
        yield folder
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
