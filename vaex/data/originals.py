"""MNIST and Fashion-MNIST, from TFDS or from their four original files, and always the same arrays."""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np

from vaex.data.assemble import Part, assemble
from vaex.data.decoding import Decoded
from vaex.data.originals_builder import Originals, build
from vaex.data.prepared import find_prepared, read_prepared, root_folder
from vaex.data.spec import Dataset
from vaex.errors import UserError

ORIGINALS = {
    "mnist": Originals(
        "mnist",
        "3.0.1",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        {
            "train": "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b",
            "test": "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b",
        },
        tuple("0123456789"),
    ),
    "fashion_mnist": Originals(
        "fashion_mnist",
        "3.0.1",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        {
            "train": "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157",
            "test": "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4",
        },
        ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def load_originals(
    originals: Originals,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """The data set as TFDS has prepared it in ``data_dir``, or built there from the original files in ``manual_dir``.

    Validation is the end of the original training files (10,000 examples), training what comes before. The contents are
    compared with known checksums, in whatever order TFDS keeps them, so the arrays are the same on every machine and no
    data set can stand in for another.

    Raises: UserError where there is neither, or other data than expected. Nothing is ever downloaded.
    References: LeCun et al. 1998; Xiao et al. 2017 (arXiv:1708.07747).
    Example:
      >>> load_originals(ORIGINALS["mnist"], "/nonexistent")
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: --dataset=mnist: not prepared in /nonexistent, and nothing is downloaded. Put ...
    """
    root = root_folder(data_dir)
    prepared = find_prepared(root, originals.name)
    if prepared is None:
        prepared = build(originals, root, _verified_folder(originals, root, manual_dir))
    decoded = read_prepared(prepared)
    train, test = (_in_original_order(originals, prepared.folder, split, decoded) for split in ("train", "test"))
    cut = len(train[0]) - originals.held_out
    raw = {"train": (train[0][:cut], train[1][:cut]), "validation": (train[0][cut:], train[1][cut:]), "test": test}
    parts = {split: Part(f"{split} images", x, f"{split} labels", y) for split, (x, y) in raw.items()}
    return assemble(originals.name, originals.name, parts, protocol=originals.name, label_names=originals.label_names)


def original_positions(n: int, split: str) -> np.ndarray:
    """Which original example stands at each position of a split that TFDS has shuffled: it sorts by the md5 of the
    split's name and the example's number.

    Example:
      >>> original_positions(4, "train").tolist()
      [0, 3, 1, 2]
    """
    digests = [hashlib.md5(f"{split}{index}".encode(), usedforsecurity=False).digest() for index in range(n)]
    return np.array(sorted(range(n), key=digests.__getitem__), np.int64)


def _verified_folder(
    originals: Originals, root: pathlib.Path, manual_dir: str | os.PathLike[str] | None
) -> pathlib.Path:
    """The folder of original files, once they are all there and the right ones."""
    names = list(originals.sha256)
    where_from = f"{', '.join(names)} (from {originals.url})"
    if manual_dir is None:
        raise UserError(
            f"--dataset={originals.name}: not prepared in {root}, and nothing is downloaded. Put {where_from} in a folder "
            "and give it as --manual_dir, or give the --data_dir where it is prepared"
        )
    folder = pathlib.Path(manual_dir).expanduser()
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(f"--manual_dir={folder}: lacks {', '.join(missing)}; {originals.name} needs {where_from}")
    for name, expected in originals.sha256.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"{folder / name}: cannot be read ({error.strerror}); check its permissions") from None
        if found != expected:
            whose = [other.name for other in ORIGINALS.values() if other.sha256.get(name) == found]
            hint = f"it is {whose[0]}'s" if whose else f"its sha256 is {found}, expected {expected}"
            raise UserError(f"{folder / name}: is not {originals.name}'s ({hint}); take it from {originals.url}")
    return folder


def _in_original_order(
    originals: Originals, folder: pathlib.Path, split: str, decoded: Decoded
) -> tuple[np.ndarray, np.ndarray]:
    """A split's images and labels in the order of the original files, known by their checksum."""
    arrays = decoded.splits.get(split, {})
    if "x" in arrays and "y" in arrays:
        x, y = arrays["x"], arrays["y"].astype(np.uint8)
        if _contents(x, y) == originals.contents[split]:
            return x, y
        positions = original_positions(len(x), split)
        restored = np.empty_like(x), np.empty_like(y)
        restored[0][positions], restored[1][positions] = x, y
        if _contents(*restored) == originals.contents[split]:
            return restored
    raise UserError(
        f"{folder}: its {split} split is not that of {originals.name} (by checksum); remove this folder and build it from the "
        "original files with --manual_dir"
    )


def _contents(x: np.ndarray, y: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(x).data)
    digest.update(y.tobytes())
    return digest.hexdigest()
