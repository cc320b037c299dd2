"""Colour sprites: characters composed from layers (body, bottomwear, topwear, hair, shoes) by six factors, inside the step.

The layers are those of Li & Mandt's (2018) "Sprites", Liberated Pixel Cup art, CC-BY-SA 3.0 and GPL 3.0: credit its artists
where you publish images.
"""

from __future__ import annotations

import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from vaex.data.spec import Spec, with_protocol
from vaex.data.storage.archive import read_arrays
from vaex.data.storage.splits import data_hash
from vaex.data.synthetic.factors import FactorSource, check_factors
from vaex.errors import UserError

NAMES = ("body", "bottom", "top", "hair", "direction", "frame")
LAYERS = ("body", "bottomwear", "topwear", "hair", "shoes")  # from back to front; shoes are not a factor
REMEDY = (
    "give an .npz file of uint8 RGBA layers body, bottomwear, topwear, hair [options, directions, frames, h, w, 4] and "
    "shoes [1, directions, frames, h, w, 4]"
)


def color_sprites(path: str | pathlib.Path) -> FactorSource:
    r"""Return the grid of colour sprites, composed from a file of layers.

    From back to front every layer replaces :math:`x` by :math:`x (1 - \alpha) + c \alpha`, starting from black; values are
    then rounded to 8 bits.

    Args:
      path: an .npz file of uint8 arrays body, bottomwear, topwear, hair [options, directions, frames, h, w, 4] and shoes
        [1, directions, frames, h, w, 4], RGBA.
    Returns: a source of uint8 images [..., h, w, 3] with factors body, bottom, top, hair, direction, frame, whose layers are
      ``resident`` on the default device.
    Raises: UserError for another file, with the remedy.
    Example:
      >>> import tempfile
      >>> layers = {name: np.full([2, 1, 1, 4, 4, 4], 255, np.uint8) for name in LAYERS[:4]}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/layers.npz", shoes=np.zeros([1, 1, 1, 4, 4, 4], np.uint8), **layers)
      ...     source = color_sprites(folder + "/layers.npz")
      >>> source.sizes, source.observe(jnp.zeros([3, 6], jnp.int32)).shape
      ((2, 2, 2, 2, 1, 1), (3, 4, 4, 3))
    """
    path = pathlib.Path(path).expanduser()
    layers = read_arrays(path, LAYERS, REMEDY)
    _check(path, layers)
    directions, frames, height, width, _ = layers["body"].shape[1:]
    options = tuple(len(layers[name]) for name in LAYERS)
    sizes = (*options[:-1], directions, frames)
    # one row per layer, direction and frame, flat, with alpha repeated for each colour: XLA's CPU loops are then vectorised
    stacked = np.concatenate([layers[name] for name in LAYERS]).reshape(-1, height * width, 4)
    color, alpha = stacked[..., :3], np.repeat(stacked[..., 3:], 3, axis=-1)
    resident = {
        "color": jnp.array(color.reshape(len(stacked), -1)),
        "alpha": jnp.array(alpha.reshape(len(stacked), -1)),
    }
    spec = Spec("color_sprites", (height, width, 3), "color", levels=256, factor_names=NAMES)
    spec = spec._replace(data_hash=data_hash({"layers": layers}))
    draw = functools.partial(_compose, sizes, (height, width))
    return FactorSource(with_protocol(spec, f"color_sprites_{math.prod(sizes)}"), sizes, resident, draw)


def _compose(
    sizes: tuple[int, ...], size: tuple[int, int], resident: dict[str, jax.Array], factors: jax.Array
) -> jax.Array:
    """Compose uint8 images [..., h, w, 3] of factors [..., 6]."""
    chosen = check_factors("color_sprites", factors, sizes)
    *options, directions, frames = sizes
    moment = chosen[..., 4] * frames + chosen[..., 5]
    image = jnp.zeros((*chosen.shape[:-1], math.prod(size) * 3), jnp.float32)
    for layer in range(len(LAYERS)):
        option = chosen[..., layer] if layer < len(options) else 0  # one pair of shoes
        row = (sum(options[:layer]) + option) * directions * frames + moment
        color, alpha = (resident[name].at[row].get(mode="clip").astype(jnp.float32) for name in ("color", "alpha"))
        image = image * (1 - alpha / 255) + color * (alpha / 255)
    return jnp.floor(image + 0.5).astype(jnp.uint8).reshape(*chosen.shape[:-1], *size, 3)


def _check(path: pathlib.Path, layers: dict[str, np.ndarray]) -> None:
    """Check that all layers are 8-bit RGBA with the same directions, frames and size."""
    expected = layers["body"].shape[1:]
    for name, layer in layers.items():
        if layer.dtype != np.uint8:
            raise UserError(f"{path}: {name} has dtype {layer.dtype}, expected uint8; {REMEDY}")
        if layer.ndim != 6 or layer.shape[-1] != 4 or layer.size == 0:
            raise UserError(
                f"{path}: {name} has shape {layer.shape}, expected [options, directions, frames, h, w, 4]; {REMEDY}"
            )
        if layer.shape[1:] != expected:
            raise UserError(
                f"{path}: {name} has shape {layer.shape}, but body {layers['body'].shape}; all need the same last five"
            )
    if len(layers["shoes"]) != 1:
        raise UserError(f"{path}: shoes has shape {layers['shoes'].shape}, expected one pair; {REMEDY}")
