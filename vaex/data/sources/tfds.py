"""Data sets of tensorflow-datasets (TFDS) by name: ``tfds:NAME[:CONFIG]``."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Sequence

from vaex.data.sources.tfds_decoding import read_records
from vaex.data.sources.tfds_records import find_records, has_records
from vaex.data.spec import Dataset
from vaex.data.storage.assemble import assemble_decoded
from vaex.data.storage.decoded import data_folder, subfolders
from vaex.data.storage.image_size import checked_size, size_suffix
from vaex.errors import UserError, nearest


def load_tfds(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
) -> Dataset:
    """Load ``tfds:NAME[:CONFIG]``: its image feature, and its feature "label" where it has one.

    Splits "train", "validation" and "test" are taken as they are; a missing one is split off as ``splits.split_off`` says.
    With ``image_size``, a side or (height, width), images are cropped about their centre and resized (bicubic). Decoded
    arrays are kept beside the data, so that later starts need neither decoding nor tensorflow-datasets; they may exceed
    the memory.

    Raises: UserError where TFDS has not prepared it, or its data cannot be used. Nothing is ever downloaded.
    Example:
      >>> load_tfds("tfds:no_such_set", "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=tfds:no_such_set: /nonexistent does not exist; give --data_dir, ...
    """
    match = re.fullmatch(r"tfds:(\w+)(?:[:/]([\w.+-]*[\w+-][\w.+-]*))?", name)
    if match is None:
        raise UserError(f"--dataset={name}: expected tfds:NAME or tfds:NAME:CONFIG, such as tfds:mnist")
    root = data_folder(data_dir)
    records = find_records(root, match[1], match[2] or "")
    if records is None:
        raise UserError(f"--dataset={name}: {_not_prepared(root, match[1], match[2])}")
    size = checked_size(image_size)
    decoded = read_records(records, size)
    full_name = "_".join(filter(None, (records.name, records.config)))
    protocol = f"tfds_{full_name}_{records.version}{size_suffix(size)}"
    return assemble_decoded(name, full_name, decoded, ("image", "label"), protocol=protocol)


def load_stock(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | Sequence[int] | None = None,
) -> Dataset:
    """Load a data set that only TFDS's stock builder prepares, with TensorFlow; the rest is as in ``load_tfds``.

    Raises: UserError where it is not prepared, with the commands that prepare it.
    Example:
      >>> load_stock("dsprites", "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=dsprites: not prepared in /nonexistent, and nothing is downloaded. Prepare it once ...
    """
    root = data_folder(data_dir)
    if has_records(root / name):
        return load_tfds(f"tfds:{name}", data_dir, image_size)
    raise UserError(
        f"--dataset={name}: not prepared in {root}, and nothing is downloaded. Prepare it once where there is a network: "
        f'pip install "vaex-jax[tensorflow]", then python -c "import tensorflow_datasets as tfds; '
        f'{_command(name, root)}"; or give the --data_dir where it is prepared'
    )


def _command(name: str, root: pathlib.Path) -> str:
    return f"tfds.builder('{name}', data_dir='{root}', file_format='array_record').download_and_prepare()"


def _not_prepared(root: pathlib.Path, name: str, config: str | None) -> str:
    if not root.is_dir():
        return f"{root} does not exist; give --data_dir, the folder in which tensorflow-datasets has prepared it"
    known = [folder.name for folder in subfolders(root) if has_records(folder)]
    full_name = f"{name}/{config}" if config else name
    hint = f"{nearest(name, known)}. " if known else ""
    command = _command(full_name, root)
    return f"not prepared in {root}. {hint}Give another --data_dir, or prepare it where there is a network: {command}"
