"""Rendered data sets: training renders images or sequences inside the compiled step, evaluation uses some that are held out."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from vaex.data.spec import Dataset, with_protocol
from vaex.data.storage.image_size import checked_size
from vaex.data.storage.splits import SPLITS, split_order
from vaex.data.synthetic.factors import FactorSource
from vaex.errors import UserError

HELD_OUT = 2000  # images of each split
HELD_OUT_SEQUENCES = 1000
SIDE, LENGTH = 32, 16  # of sequences
LAYERS = "lpc_walk_layers.npz"  # name of the file of colour sprites in a folder


def load_rendered(
    name: str, manual_dir: str | os.PathLike[str] | None = None, image_size: int | Sequence[int] | None = None
) -> Dataset:
    """Load a data set whose images are rendered from factors.

    Training passes the entire grid, each image once per epoch. "validation" and "test" hold fixed images of it, and "train"
    a sample. Each split has "factors" [n, f] beside "x".

    Args:
      name: sprites or color_sprites.
      manual_dir: for color_sprites, the file of layers, or the folder in which it lies.
      image_size: for sprites, the side at which they are rendered.
    Raises: UserError where the layers are missing or invalid, or for a size that is not square.
    Example:
      >>> dataset = load_rendered("sprites")
      >>> dataset.spec.shape, dataset.splits["test"]["factors"].shape, dataset.source.num_observations
      ((64, 64, 1), (2000, 5), 737280)
    """
    if name == "sprites":
        from vaex.data.synthetic.sprites import sprites

        return from_source(sprites(_side(image_size, 64)))
    from vaex.data.synthetic.color_sprites import color_sprites

    if manual_dir is None:
        raise UserError(
            f"--dataset=color_sprites: give the file of layers, such as {LAYERS}, or its folder as --manual_dir"
        )
    path = pathlib.Path(manual_dir).expanduser()
    return from_source(color_sprites(path / LAYERS if path.is_dir() else path))


def from_source(source: FactorSource, held_out: int = HELD_OUT) -> Dataset:
    """Return a data set of the images of ``source``, with ``held_out`` of them (at most a tenth) in each split.

    They stay in random order.

    Raises: UserError for a source of fewer than ten images.
    """
    n = source.num_observations
    if n < 10:
        raise UserError(f"{source.spec.name}: {n} images are too few to train and test with; give more factors")
    size = min(held_out, n // 10)
    observe = jax.jit(lambda resident, factors: source.render(resident, factors))
    splits, order = {}, split_order(n)
    for place, split in enumerate(SPLITS):
        factors = np.asarray(source.index_to_factors(order[place * size : (place + 1) * size]))
        pieces = [np.asarray(observe(source.resident, factors[at : at + 250])) for at in range(0, size, 250)]
        splits[split] = {"x": np.concatenate(pieces), "factors": factors}
    name = source.spec.protocol.split()[0]
    return Dataset(splits, with_protocol(source.spec, f"{name}_of_which_{size}_test"), source)


def load_moving(
    name: str, image_size: int | Sequence[int] | None = None, sequence_length: int | None = None
) -> Dataset:
    """Load sequences of moving sprites: training renders new ones at every step, and the splits hold fixed ones.

    Args:
      name: bouncing_sprites or rotating_sprites.
      image_size: the side at which they are rendered, 32 by default.
      sequence_length: frames, 16 by default.
    Raises: UserError for a size that is not square, or no frames.
    Example:
      >>> dataset = load_moving("bouncing_sprites", 16, 4)
      >>> dataset.spec.shape, dataset.splits["test"]["x"].shape, dataset.spec.protocol
      ((4, 16, 16, 1), (1000, 4, 16, 16, 1), 'bouncing_sprites_16x16_4_frames_1000_test binary')
    """
    from vaex.data.synthetic.moving_sprites import moving_sprites

    length = LENGTH if sequence_length is None else sequence_length
    if length < 1:
        raise UserError(f"--sequence_length={length}: give at least 1 frame")
    source = moving_sprites(name, _side(image_size, SIDE), length)
    splits = {split: {"x": source.held_out(place, HELD_OUT_SEQUENCES)} for place, split in enumerate(SPLITS)}
    protocol = source.spec.protocol.split()[0]
    return Dataset(splits, with_protocol(source.spec, f"{protocol}_{HELD_OUT_SEQUENCES}_test"), source)


def _side(image_size: int | Sequence[int] | None, usual: int) -> int:
    """Return the side of square images."""
    height, width = checked_size(image_size) or (usual, usual)
    if height != width:
        raise UserError(f"--image_size={height}x{width}: sprites are square; give one side, such as {height}")
    return height
