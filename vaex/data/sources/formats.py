"""Readers of the formats in which data sets were published, each (folder, split) -> images and labels."""

from __future__ import annotations

import gzip
import hashlib
import pathlib
import tarfile

import numpy as np

from vaex.data.storage.archive import read_arrays

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
AMAT = {
    "train": "binarized_mnist_train.amat",
    "validation": "binarized_mnist_valid.amat",
    "test": "binarized_mnist_test.amat",
}
CIFAR = {"train": [f"data_batch_{index}.bin" for index in range(1, 6)], "test": ["test_batch.bin"]}
PIECE = 10_000  # images per file of CIFAR-10
CHUNK = 1000  # drawings reduced at a time

Split = tuple[np.ndarray, np.ndarray | None]  # images [n, h, w, c] and labels [n], both uint8


def read_idx(folder: pathlib.Path, split: str) -> Split:
    """Read a split of MNIST: gzipped files of two zero bytes, a type (8: uint8), the rank, the sizes (big-endian), the data."""
    images, labels = (_idx(folder / name) for name in FILES[split])
    return images[..., None], labels


def _idx(path: pathlib.Path) -> np.ndarray:
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(raw, ">u4", rank, 4))


def read_amat(folder: pathlib.Path, split: str) -> Split:
    """Read binarised MNIST from text, 784 digits 0 or 1 per line, or from ``binarized_mnist.npz``."""
    path = folder / AMAT[split]
    if path.is_file():
        text = np.frombuffer(path.read_bytes(), np.uint8).reshape(
            -1, 2 * 784
        )  # every other byte is a space or line end
        return (text[:, ::2] - ord("0")).reshape(-1, 28, 28, 1), None
    return _packed(folder / "binarized_mnist.npz", split)[0][..., None], None


def read_cifar(folder: pathlib.Path, split: str) -> Split:
    """Read CIFAR-10's binary archive: records of one label and 32x32 red, then green, then blue values."""
    contents = {}
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "r|gz") as archive:
        for member in archive:
            name = pathlib.PurePosixPath(member.name).name
            content = archive.extractfile(member) if name in CIFAR[split] else None
            if content is not None:
                contents[name] = content.read()
    records = np.frombuffer(b"".join(contents[name] for name in CIFAR[split]), np.uint8).reshape(-1, 3073)
    return np.ascontiguousarray(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), records[:, 0]


def read_omniglot(folder: pathlib.Path, split: str) -> Split:
    """Read Omniglot's drawings, packed as bits, reduced to 28x28; labels are alphabets.

    A drawing of 105x105 is padded to 112x112 with blank pixels (3 before, 4 after). Each output pixel is the share of ink
    in a block of 4x4, k/16, stored as the nearest of 256 levels; 255 is ink. Train is the background set, test the evaluation
    set.
    """
    evaluation, packed, alphabet = _packed(folder / "omniglot_105_packed.npz", "evaluation", "packed", "alphabet")
    chosen = evaluation == (split == "test")
    packed, alphabet = packed[chosen], alphabet[chosen]
    levels = np.rint(np.arange(17) * 255 / 16).astype(np.uint8)
    x = np.empty((len(packed), 28, 28, 1), np.uint8)
    for start in range(0, len(packed), CHUNK):
        ink = np.unpackbits(packed[start : start + CHUNK], axis=1, count=105 * 105).reshape(-1, 105, 105)
        blocks = np.pad(ink, ((0, 0), (3, 4), (3, 4))).reshape(-1, 28, 4, 28, 4)
        x[start : start + CHUNK, ..., 0] = levels[blocks.sum((2, 4), dtype=np.uint8)]
    return x, alphabet


def read_freyfaces(folder: pathlib.Path, split: str) -> Split:
    """Read the Frey faces' array ``images``, frames of one video in order; train is the only split."""
    return _packed(folder / "freyfaces.npz", "images")[0][..., None], None


def _packed(path: pathlib.Path, *names: str) -> list[np.ndarray]:
    return list(read_arrays(path, names).values())


def digest(x: np.ndarray, y: np.ndarray | None) -> str:
    """Return the sha256 of the pixels and then of the labels, if any (one byte each).

    Example:
      >>> digest(np.zeros([1, 2, 2, 1], np.uint8), np.array([3], np.uint8))[:16]
      '016a682d1df4f869'
    """
    sha256 = hashlib.sha256(np.ascontiguousarray(x).data)
    if y is not None:
        sha256.update(y.astype(np.uint8).data)
    return sha256.hexdigest()


def digest_cifar(x: np.ndarray, y: np.ndarray | None) -> str:
    """Return the md5 of each of CIFAR-10's files as published, 10,000 records each, separated by spaces."""
    assert y is not None
    digests = []
    for start in range(0, len(x), PIECE):
        pixels = x[start : start + PIECE].transpose(0, 3, 1, 2).reshape(-1, 3072)
        records = np.concatenate([y[start : start + PIECE, None].astype(np.uint8), pixels], axis=1)
        digests.append(hashlib.md5(records.data, usedforsecurity=False).hexdigest())
    return " ".join(digests)
