"""Data sets of tensorflow-datasets by name: ``tfds:NAME[:CONFIG]``."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence

from vaex.data.spec import Dataset
from vaex.data.storage.assemble import assemble_decoded
from vaex.data.storage.prepared import find_prepared, folders, is_prepared, read_prepared, root_folder
from vaex.data.storage.resizing import checked_size, words
from vaex.errors import UserError, nearest


def load_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
) -> Dataset:
    """The data set ``tfds:NAME[:CONFIG]``: its image feature, and its feature "label" where it has one.

    Splits "train", "validation" and "test" are taken as they are; a missing one is carved as ``arrays.carve`` says.
    With ``image_size``, a side or (height, width), images are cut to that shape about their middle and resized (bicubic).
    Decoded arrays are kept beside the data, so that later starts need neither decoding nor tensorflow-datasets; they may
    exceed the memory.

    Raises: UserError where it is not prepared, or holds what can't be used. Nothing is ever downloaded.
    Example:
      >>> load_tfds("tfds:no_such_set", "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=tfds:no_such_set: /nonexistent does not exist; give --data_dir, ...
    """
    match = re.fullmatch(r"tfds:(\w+)(?:[:/]([\w.+-]*[\w+-][\w.+-]*))?", name)
    if match is None:
        raise UserError(f"--dataset={name}: expected tfds:NAME or tfds:NAME:CONFIG, such as tfds:mnist")
    root = root_folder(data_dir)
    prepared = find_prepared(root, match[1], match[2] or "")
    if prepared is None:
        raise UserError(f"--dataset={name}: {_not_prepared(root, match[1], match[2])}")
    size = checked_size(image_size)
    decoded = read_prepared(prepared, size)
    own_name = "_".join(filter(None, (prepared.name, prepared.config)))
    protocol = f"tfds_{own_name}_{prepared.version}{words(size)}"
    return assemble_decoded(name, own_name, decoded, ("image", "label"), protocol=protocol)


def load_stock(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
) -> Dataset:
    """A data set that only TFDS's stock builder prepares, with TensorFlow: read like ``tfds:NAME`` once it is prepared.

    Raises: UserError where it is not prepared, with the commands that do it.
    Example:
      >>> load_stock("dsprites", "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=dsprites: not prepared in /nonexistent, and nothing is downloaded. Prepare it once ...
    """
    root = root_folder(data_dir)
    if is_prepared(root / name):
        return load_tfds(f"tfds:{name}", data_dir, image_size)
    raise UserError(
        f"--dataset={name}: not prepared in {root}, and nothing is downloaded. Prepare it once where there is a network: "
        f'pip install "vaex-jax[tensorflow]", then python -c "import tensorflow_datasets as tfds; '
        f'{_prepare(name, root)}"; or give the --data_dir where it is prepared'
    )


def _prepare(name: str, root: pathlib.Path) -> str:
    return f"tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare()"


def _not_prepared(root: pathlib.Path, name: str, config: str | None) -> str:
    if not root.is_dir():
        return f"{root} does not exist; give --data_dir, the folder in which tensorflow-datasets has prepared it"
    there = [folder.name for folder in folders(root) if is_prepared(folder)]
    wanted = f"{name}/{config}" if config else name
    hint = f"{nearest(name, there)}. " if there else ""
    command = _prepare(wanted, root)
    return f"not prepared in {root}. {hint}Give another --data_dir, or prepare it where there is a network: {command}"
