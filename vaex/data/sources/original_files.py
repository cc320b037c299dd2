"""Original files of published data sets: the record that describes them, and reading them."""

from __future__ import annotations

import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vaex.data.sources import formats
from vaex.data.sources.formats import Split
from vaex.errors import UserError


class OriginalFiles(NamedTuple):
    """A published data set, described by its original files.

    ``version``: of TFDS's stock data set, whose records are written; "" for none, where decoded arrays are kept instead.
    ``url``: origin of the files. ``sha256``: of each file. ``contents``: split -> ``digest`` of its images and labels in
    the original order. ``held_out``: number of examples at the end of train that are for validation. ``read``: reader of
    the format. ``packed``: a file that replaces the others, verified by its contents alone. ``protocol``: start of the
    protocol, where it is not the name. ``ids``: whether TFDS's records have an id, such as train_00000.

    Example:
      >>> OriginalFiles("my_digits", "1.0.0", "https://example.org/", {}, {}, ("a", "b")).held_out
      10000
    """

    name: str
    version: str
    url: str
    sha256: dict[str, str]
    contents: dict[str, str]
    label_names: tuple[str, ...]
    held_out: int = 10_000
    read: Callable[[pathlib.Path, str], Split] = formats.read_idx
    digest: Callable[[np.ndarray, np.ndarray | None], str] = formats.digest
    packed: str = ""
    protocol: str = ""
    ids: bool = False


def read_files(originals: OriginalFiles, folder: pathlib.Path) -> dict[str, Split]:
    """Read all splits from the files in ``folder``: images [n, h, w, c] and labels [n], if any.

    Raises: UserError where a file cannot be read, or holds a label without a name.
    Example:
      >>> read_files(OriginalFiles("my_digits", "", "https://example.org/", {}, {"test": ""}, ()), pathlib.Path("/nonexistent"))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent: the files of my_digits cannot be read (...); download them again from https://example.org/
    """
    try:
        splits = {split: originals.read(folder, split) for split in originals.contents}
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{folder}: the files of {originals.name} cannot be read ({error}); download them again from {originals.url}"
        ) from None
    for split, (_, y) in splits.items():
        if y is not None and y.max(initial=0) >= len(originals.label_names):
            raise UserError(
                f"{folder}: the {split} split of {originals.name} has label {y.max()}, expected 0 to "
                f"{len(originals.label_names) - 1}; download its files again from {originals.url}"
            )
    return splits
