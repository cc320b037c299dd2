"""Data sets from TFDS or from their original files, and always the same arrays."""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np

from vaex.data.sources.formats import Split
from vaex.data.sources.originals_builder import Originals, build, read_files
from vaex.data.sources.originals_table import ORIGINALS
from vaex.data.spec import Dataset
from vaex.data.storage.assemble import Part, assemble
from vaex.data.storage.decoding import Decoded
from vaex.data.storage.prepared import CACHE, LAYOUT, find_prepared, keep, read_kept, read_prepared, root_folder
from vaex.data.storage.store import Store
from vaex.errors import UserError


def load_originals(
    originals: Originals,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set as it is prepared in ``data_dir``, or built there from the original files in ``manual_dir``.

    Where the files have no validation split, it is the end of the training files (``Originals.held_out``), or carved as
    ``arrays.carve`` says. The contents are compared with known checksums, in whatever order TFDS keeps them, so the arrays
    are the same on every machine and no data set can stand in for another.

    Raises: UserError where there is neither, or other data than expected. Nothing is ever downloaded.
    References: LeCun et al. 1998; Xiao et al. 2017 (arXiv:1708.07747); Larochelle & Murray 2011 (static binarised MNIST);
      Krizhevsky 2009; Lake et al. 2015 (Omniglot); Roweis & Saul 2000 (Frey faces).
    Example:
      >>> load_originals(ORIGINALS["mnist"], "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=mnist: not prepared in /nonexistent, and nothing is downloaded. Put ...
    """
    folder, decoded = _decoded(originals, root_folder(data_dir), manual_dir)
    raw = {split: _in_original_order(originals, folder, split, decoded) for split in originals.contents}
    if originals.held_out:
        x, y = raw["train"]
        cut = len(x) - originals.held_out
        for split, part in (("train", slice(cut)), ("validation", slice(cut, None))):
            raw[split] = x[part], None if y is None else y[part]
    parts = {split: Part(f"{split} images", x, f"{split} labels", y) for split, (x, y) in raw.items()}
    protocol = originals.protocol or originals.name
    return assemble(originals.name, originals.name, parts, protocol=protocol, label_names=originals.label_names)


def original_positions(n: int, split: str) -> np.ndarray:
    """Which original example stands at each position of a split that TFDS has shuffled: it sorts by the md5 of the
    split's name and the example's number.

    Example:
      >>> original_positions(4, "train").tolist()
      [0, 3, 1, 2]
    """
    digests = [hashlib.md5(f"{split}{index}".encode(), usedforsecurity=False).digest() for index in range(n)]
    return np.array(sorted(range(n), key=digests.__getitem__), np.int64)


def _decoded(
    originals: Originals, root: pathlib.Path, manual_dir: str | os.PathLike[str] | None
) -> tuple[pathlib.Path, Decoded]:
    """The data as it is kept below ``root``, and where; made from the original files where it is not there yet."""
    if originals.version:
        prepared = find_prepared(root, originals.name)
        if prepared is None:
            prepared = build(originals, root, _verified_folder(originals, root, manual_dir))
        return prepared.folder, read_prepared(prepared)
    folder = root / CACHE / originals.name
    fingerprint = ":".join((LAYOUT, *originals.contents.values()))
    decoded = read_kept(folder, fingerprint)
    if decoded is None:
        splits = read_files(originals, _verified_folder(originals, root, manual_dir))

        def fill(store: Store) -> tuple[str, ...]:
            for split, (x, y) in splits.items():
                store.array(f"{split}_x", x.shape, x.dtype)(x)
                if y is not None:
                    store.array(f"{split}_y", y.shape, y.dtype)(y)
            return originals.label_names

        decoded = keep(root, originals.name, fingerprint, fill)
    return folder, decoded


def _verified_folder(
    originals: Originals, root: pathlib.Path, manual_dir: str | os.PathLike[str] | None
) -> pathlib.Path:
    """The folder of original files, once they are all there and the right ones."""
    names = list(originals.sha256) or [originals.packed]
    other = f", or {originals.packed}" if originals.sha256 and originals.packed else ""
    where_from = f"{', '.join(names)} (from {originals.url}){other}"
    if manual_dir is None:
        raise UserError(
            f"--dataset={originals.name}: not prepared in {root}, and nothing is downloaded. Put {where_from} in a folder "
            "and give it as --manual_dir, or give the --data_dir where it is prepared"
        )
    folder = pathlib.Path(manual_dir).expanduser()
    missing = [name for name in names if not (folder / name).is_file()]
    packed = bool(originals.packed) and (folder / originals.packed).is_file()
    if missing and not packed:
        raise UserError(f"--manual_dir={folder}: lacks {', '.join(missing)}; {originals.name} needs {where_from}")
    for name, expected in originals.sha256.items():
        if name not in missing:
            _check_file(originals, folder / name, expected)
    if missing or not originals.sha256:
        for split, (x, y) in read_files(originals, folder).items():
            found = originals.digest(x, y)
            if found != originals.contents[split]:
                raise UserError(
                    f"{folder / originals.packed}: is not {originals.name}'s (the checksum of its {split} images is {found}, "
                    f"expected {originals.contents[split]}); take it again from {originals.url}"
                )
    return folder


def _check_file(originals: Originals, path: pathlib.Path, expected: str) -> None:
    """Raise a UserError unless the file has the expected sha256."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if found != expected:
        whose = [other.name for other in ORIGINALS.values() if other.sha256.get(path.name) == found]
        hint = f"it is {whose[0]}'s" if whose else f"its sha256 is {found}, expected {expected}"
        raise UserError(f"{path}: is not {originals.name}'s ({hint}); take it from {originals.url}")


def _in_original_order(originals: Originals, folder: pathlib.Path, split: str, decoded: Decoded) -> Split:
    """A split's images and labels in the order of the original files, known by their checksum."""
    arrays = decoded.splits.get(split, {})
    if "x" in arrays and ("y" in arrays) == bool(originals.label_names):
        x, y = arrays["x"], arrays["y"].astype(np.uint8) if "y" in arrays else None
        if originals.digest(x, y) == originals.contents[split]:
            return x, y
        positions = np.argsort(original_positions(len(x), split))
        x, y = x[positions], None if y is None else y[positions]
        if originals.digest(x, y) == originals.contents[split]:
            return x, y
    raise UserError(
        f"{folder}: its {split} split is not that of {originals.name} (by checksum); remove this folder and build it from the "
        "original files with --manual_dir"
    )
