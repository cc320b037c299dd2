"""From a user's raw arrays to stored ones: which values are levels, which are continuous, and which can't be used."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vaex.errors import UserError


def store(where: str, raw: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], str, int | None]:
    """Stored arrays from a user's raw ones: level indices where values are levels, else float32.

    Recognised, over all arrays together: bools; integers 0..255 (binary where all are 0 or 1, or all 0 or 255); floats in
    [0, 1] (binary where all are 0 or 1; 8-bit where all are k/255 up to rounding; else continuous); vectors of other
    floats (kind "real").

    Args:
      where: named in errors.
      raw: name -> [n, h, w], [n, h, w, c] or [n, d]; of one trailing shape. Names appear in errors.
    Returns: name -> [n, h, w, c] or [n, d], uint8 or float32; the kind; the number of levels (see ``Spec``).
    Raises: UserError for a dtype, rank, shape or value that can't be used.
    Example:
      >>> stored, kind, levels = store("a.npz", {"x": np.array([[0, 255], [255, 0]])})
      >>> stored["x"].tolist(), kind, levels
      ([[0, 1], [1, 0]], 'binary', 2)
    """
    images = {name: _shaped(f"{where}: {name}", values) for name, values in raw.items()}
    first, example = next((name, values) for name, values in images.items())
    for name, values in images.items():
        if values.shape[1:] != example.shape[1:]:
            raise UserError(
                f"{where}: {name} has examples of shape {values.shape[1:]}, but {first} of {example.shape[1:]}; "
                "all splits need one shape"
            )
        if _family(values) != _family(example):
            raise UserError(
                f"{where}: {name} is {values.dtype}, but {first} is {example.dtype}; store all splits in one dtype"
            )
    family = _family(example)
    kind = "color" if example.ndim == 4 and example.shape[-1] > 1 else "grey"
    if family == "bool":
        return {name: values.astype(np.uint8) for name, values in images.items()}, "binary", 2
    if family == "integer":
        return _store_integers(where, images, kind)
    return _store_floats(where, images, kind)


def _family(values: np.ndarray) -> str:
    return {"b": "bool", "i": "integer", "u": "integer", "f": "float"}[values.dtype.kind]


def _shaped(where: str, values: np.ndarray) -> np.ndarray:
    """The array with a channel axis where it holds images, once its dtype, rank, size and values are fit for use."""
    if values.dtype.kind not in "biuf":
        raise UserError(f"{where} has dtype {values.dtype}, expected uint8, bool or float; convert it with .astype")
    if values.ndim not in (2, 3, 4):
        raise UserError(f"{where} has shape {values.shape}, expected [n, h, w], [n, h, w, c] or [n, d]; reshape it")
    if values.size == 0:
        raise UserError(f"{where} is empty (shape {values.shape}); give at least one example")
    if values.ndim == 4 and values.shape[1] in (1, 3) and values.shape[3] > 4:
        raise UserError(
            f"{where} has shape {values.shape}, which looks like [n, c, h, w]; store x.transpose(0, 2, 3, 1)"
        )
    finite = np.isfinite(values)
    if not finite.all():
        count, first = int((~finite).sum()), tuple(np.argwhere(~finite)[0].tolist())
        raise UserError(
            f"{where} has {count} values that are NaN or infinite, the first at index {first}; remove these examples or "
            "replace the values"
        )
    return values[..., None] if values.ndim == 3 else values


def _store_integers(where: str, images: Mapping[str, np.ndarray], kind: str) -> tuple[dict[str, np.ndarray], str, int]:
    for name, values in images.items():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 255:
            raise UserError(
                f"{where}: {name} is {values.dtype} with values from {low} to {high}, expected 0 to 255; rescale it to uint8, "
                "or convert vectors of real numbers to float32"
            )
    bytes_ = {name: values.astype(np.uint8, copy=False) for name, values in images.items()}
    highest = max(int(values.max()) for values in bytes_.values())
    if highest <= 1:
        return bytes_, "binary", 2
    if highest == 255 and all(bool(np.all((values == 0) | (values == 255))) for values in bytes_.values()):
        return {name: (values == 255).astype(np.uint8) for name, values in bytes_.items()}, "binary", 2
    return bytes_, kind, 256


def _store_floats(
    where: str, images: Mapping[str, np.ndarray], kind: str
) -> tuple[dict[str, np.ndarray], str, int | None]:
    low, high = (float(pick([pick(values) for values in images.values()])) for pick in (np.min, np.max))
    if low < 0 or high > 1:
        if next(iter(images.values())).ndim == 4:
            raise UserError(
                f"{where}: float images hold values from {low:g} to {high:g}, expected 0 to 1; divide by the largest "
                "possible value, such as x / 255, or store uint8"
            )
        if max(-low, high) > float(np.finfo(np.float32).max):
            raise UserError(f"{where}: values from {low:g} to {high:g} do not fit in float32; rescale them")
        return {name: values.astype(np.float32) for name, values in images.items()}, "real", None
    if all(bool(np.all((values == 0) | (values == 1))) for values in images.values()):
        return {name: values.astype(np.uint8) for name, values in images.items()}, "binary", 2
    if all(map(_on_grid, images.values())):
        indices = {name: np.round(values.astype(np.float32) * 255) for name, values in images.items()}
        return {name: values.astype(np.uint8) for name, values in indices.items()}, kind, 256
    return {name: values.astype(np.float32) for name, values in images.items()}, kind, None


def _on_grid(values: np.ndarray) -> bool:
    """Whether every value is k/255 for a whole k, up to the rounding of its own dtype (at least float32's)."""
    level = np.round(values.astype(np.float32) * 255)
    rounding = np.finfo(values.dtype).eps + 2 * np.finfo(np.float32).eps
    return bool(np.all(np.abs(values - level / np.float32(255)) <= rounding * np.maximum(values, 1 / 255)))
