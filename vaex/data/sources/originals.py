"""Published data sets, read from TFDS records or from their original files; the arrays are the same either way."""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np

from vaex.data.sources.formats import Split
from vaex.data.sources.original_files import OriginalFiles, read_files
from vaex.data.sources.originals_table import ORIGINALS
from vaex.data.sources.tfds_decoding import read_records
from vaex.data.sources.tfds_records import find_records
from vaex.data.sources.tfds_writing import write_records
from vaex.data.spec import Dataset
from vaex.data.storage.assemble import RawSplit, assemble
from vaex.data.storage.decoded import CACHE, LAYOUT, Decoded, data_folder, keep, read_kept
from vaex.data.storage.writers import ArrayWriter
from vaex.errors import UserError


def load_originals(
    originals: OriginalFiles,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load a data set from TFDS records in ``data_dir``, which are first written from the original files in ``manual_dir``.

    Where the files have no validation split, the end of the training files is held out (``OriginalFiles.held_out``), or
    ``splits.split_off`` holds out a tenth. Contents are compared with known checksums, in whatever order TFDS stores them, so
    the arrays are the same on every machine and one data set cannot pass for another.

    Raises: UserError where there are neither records nor files, or the data differ. Nothing is ever downloaded.
    References: LeCun et al. 1998; Xiao et al. 2017 (arXiv:1708.07747); Larochelle & Murray 2011 (static binarised MNIST);
      Krizhevsky 2009; Lake et al. 2015 (Omniglot); Roweis & Saul 2000 (Frey faces).
    Example:
      >>> load_originals(ORIGINALS["mnist"], "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=mnist: not prepared in /nonexistent, and nothing is downloaded. Put ...
    """
    folder, decoded = _decoded(originals, data_folder(data_dir), manual_dir)
    raw = {split: _in_original_order(originals, folder, split, decoded) for split in originals.contents}
    if originals.held_out:
        x, y = raw["train"]
        cut = len(x) - originals.held_out
        for split, rows in (("train", slice(cut)), ("validation", slice(cut, None))):
            raw[split] = x[rows], None if y is None else y[rows]
    splits = {split: RawSplit(f"{split} images", x, f"{split} labels", y) for split, (x, y) in raw.items()}
    protocol = originals.protocol or originals.name
    return assemble(originals.name, originals.name, splits, protocol=protocol, label_names=originals.label_names)


def original_positions(n: int, split: str) -> np.ndarray:
    """Return the original number of each example of a split that TFDS has shuffled.

    TFDS sorts by the md5 of the split's name and the example's number.

    Example:
      >>> original_positions(4, "train").tolist()
      [0, 3, 1, 2]
    """
    digests = [hashlib.md5(f"{split}{index}".encode(), usedforsecurity=False).digest() for index in range(n)]
    return np.array(sorted(range(n), key=digests.__getitem__), np.int64)


def _decoded(
    originals: OriginalFiles, root: pathlib.Path, manual_dir: str | os.PathLike[str] | None
) -> tuple[pathlib.Path, Decoded]:
    """Return the folder below ``root`` and the decoded data in it, after building both from the original files if needed."""
    if originals.version:
        records = find_records(root, originals.name)
        if records is None:
            records = write_records(originals, root, _verified_folder(originals, root, manual_dir))
        return records.folder, read_records(records)
    folder = root / CACHE / originals.name
    fingerprint = ":".join((LAYOUT, *originals.contents.values()))
    decoded = read_kept(folder, fingerprint)
    if decoded is None:
        splits = read_files(originals, _verified_folder(originals, root, manual_dir))

        def decode(writer: ArrayWriter) -> tuple[str, ...]:
            for split, (x, y) in splits.items():
                writer.array(f"{split}_x", x.shape, x.dtype)(x)
                if y is not None:
                    writer.array(f"{split}_y", y.shape, y.dtype)(y)
            return originals.label_names

        decoded = keep(root, originals.name, fingerprint, decode)
    return folder, decoded


def _verified_folder(
    originals: OriginalFiles, root: pathlib.Path, manual_dir: str | os.PathLike[str] | None
) -> pathlib.Path:
    """Return the folder of original files after verifying that all are there and authentic."""
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
            digest = originals.digest(x, y)
            if digest != originals.contents[split]:
                raise UserError(
                    f"{folder / originals.packed}: is not {originals.name}'s (the checksum of its {split} images is {digest}, "
                    f"expected {originals.contents[split]}); download it again from {originals.url}"
                )
    return folder


def _check_file(originals: OriginalFiles, path: pathlib.Path, expected: str) -> None:
    """Check the sha256 of a file; raise a UserError where it differs."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if sha256 != expected:
        owners = [other.name for other in ORIGINALS.values() if other.sha256.get(path.name) == sha256]
        hint = f"it is {owners[0]}'s" if owners else f"its sha256 is {sha256}, expected {expected}"
        raise UserError(f"{path}: is not {originals.name}'s ({hint}); download it from {originals.url}")


def _in_original_order(originals: OriginalFiles, folder: pathlib.Path, split: str, decoded: Decoded) -> Split:
    """Return a split's images and labels in the order of the original files, which their checksum confirms."""
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
