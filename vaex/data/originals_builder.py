"""Building a data set in MNIST's format into TFDS records without TensorFlow."""

from __future__ import annotations

import gzip
import io
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from vaex.data.decoding import Prepared
from vaex.data.prepared import find_prepared
from vaex.errors import UserError

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


class Originals(NamedTuple):
    """A data set in MNIST's format.

    ``url``: where its files come from. ``sha256``: of each file. ``contents``: split -> sha256 over the pixels, then the
    labels (one byte each), in the original order. ``held_out``: how many examples from the end of train are validation.

    Example:
      >>> Originals("my_digits", "1.0.0", "https://example.org/", {}, {}, ("a", "b")).held_out
      10000
    """

    name: str
    version: str
    url: str
    sha256: dict[str, str]
    contents: dict[str, str]
    label_names: tuple[str, ...]
    held_out: int = 10_000


def build(originals: Originals, root: pathlib.Path, manual: pathlib.Path, *, shuffle: bool = False) -> Prepared:
    """Write TFDS records of the files in ``manual``, in the original order, readable by the stock ``tfds.data_source``.

    Args:
      originals: what to build.
      root: TFDS's data folder; its extractions go to a folder of this data set's own.
      manual: holds the files, already verified.
      shuffle: TFDS's own pseudo-random order instead, as its stock builder writes.
    Raises: UserError where tensorflow-datasets is missing or the disk refuses; nothing half-written is left.
    Example:
      >>> build(mnist, pathlib.Path("data"), pathlib.Path("mnist_files"))  # doctest: +SKIP
      Prepared(root=PosixPath('data'), name='mnist', config='', version='3.0.1')
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f"--dataset={originals.name} needs tensorflow-datasets ({error}); "
            "pip install tensorflow-datasets importlib_resources pillow"
        ) from None
    config = tensorflow_datasets.download.DownloadConfig(
        manual_dir=manual, extract_dir=root / "downloads" / "extracted" / originals.name, try_download_gcs=False
    )
    try:
        root.mkdir(parents=True, exist_ok=True)
        builder = _builder(originals, manual, shuffle)(data_dir=root, file_format="array_record")
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        if find_prepared(root, originals.name) is None:  # else another process was faster
            raise UserError(
                f"--data_dir={root}: {originals.name} cannot be written there ({error.strerror or error}); "
                "free space or give another --data_dir"
            ) from None
    return Prepared(root, originals.name, "", originals.version)


def _read_idx(path: pathlib.Path) -> np.ndarray:
    """An array of LeCun's idx format: two zero bytes, a type (8: uint8), the rank, the sizes (big-endian), the data."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(raw, ">u4", rank, 4))


def _examples(manual: pathlib.Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Examples as PNG bytes, which TFDS stores as they are; encoding arrays itself would need TensorFlow."""
    from PIL import Image

    images, labels = (_read_idx(manual / name) for name in FILES[split])
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        png = io.BytesIO()
        Image.fromarray(image).save(png, format="PNG", compress_level=1)
        yield index, {"image": png.getvalue(), "label": int(label)}


def _builder(originals: Originals, manual: pathlib.Path, shuffle: bool) -> type[Any]:
    """A TFDS builder class of the stock one's name, version and features, which leaves TFDS's registry alone."""
    import tensorflow_datasets

    shape = (*_read_idx(manual / FILES["test"][0]).shape[1:], 1)

    class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        name = originals.name
        VERSION = tensorflow_datasets.core.Version(originals.version)

        def _info(self) -> Any:
            kinds = tensorflow_datasets.features
            label = kinds.ClassLabel(names=list(originals.label_names))
            return tensorflow_datasets.core.DatasetInfo(
                builder=self,
                description=f"{originals.name}, built from its original files.",
                features=kinds.FeaturesDict({"image": kinds.Image(shape=shape), "label": label}),
                supervised_keys=("image", "label"),
                homepage=originals.url,
                disable_shuffling=not shuffle,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: _examples(manual, split) for split in FILES}

        def _generate_examples(self) -> Any:  # abstract in TFDS; the generators above are given directly
            raise NotImplementedError

    return Builder
