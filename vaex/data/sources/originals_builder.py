"""Original files: the facts that describe a data set's, and building TFDS records of them without TensorFlow."""

from __future__ import annotations

import io
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vaex.data.sources import formats
from vaex.data.sources.formats import FILES, Split
from vaex.data.storage.decoding import Prepared
from vaex.data.storage.prepared import find_prepared
from vaex.errors import UserError

__all__ = ["FILES", "Originals", "build", "read_files"]


class Originals(NamedTuple):
    """A data set that is read from its original files.

    ``version``: of TFDS's stock data set, whose records are built; "" for none, where decoded arrays are kept instead.
    ``url``: where its files come from. ``sha256``: of each file. ``contents``: split -> ``digest`` of its images and labels
    in the original order. ``held_out``: how many examples from the end of train are validation. ``read``: the format's
    reader. ``packed``: a file that can stand for the others, known by its contents alone. ``protocol``: its first words,
    where not the name. ``ids``: whether records carry an id, as train_00000.

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
    read: Callable[[pathlib.Path, str], Split] = formats.read_idx
    digest: Callable[[np.ndarray, np.ndarray | None], str] = formats.digest
    packed: str = ""
    protocol: str = ""
    ids: bool = False


def read_files(originals: Originals, folder: pathlib.Path) -> dict[str, Split]:
    """All splits out of the files in ``folder``: images [n, h, w, c] and labels [n], if any.

    Raises: UserError where a file can't be read, or holds a label without a name.
    Example:
      >>> read_files(Originals("my_digits", "", "https://example.org/", {}, {"test": ""}, ()), pathlib.Path("/nonexistent"))
      Traceback (most recent call last):
      ...
      vaex.errors.UserError: /nonexistent: the files of my_digits cannot be read (...); take them again from https://example.org/
    """
    try:
        splits = {split: originals.read(folder, split) for split in originals.contents}
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f"{folder}: the files of {originals.name} cannot be read ({error}); take them again from {originals.url}"
        ) from None
    for split, (_, y) in splits.items():
        if y is not None and y.max(initial=0) >= len(originals.label_names):
            raise UserError(
                f"{folder}: the {split} split of {originals.name} has label {y.max()}, expected 0 to "
                f"{len(originals.label_names) - 1}; take its files again from {originals.url}"
            )
    return splits


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
    splits = read_files(originals, manual)
    config = tensorflow_datasets.download.DownloadConfig(
        manual_dir=manual, extract_dir=root / "downloads" / "extracted" / originals.name, try_download_gcs=False
    )
    try:
        root.mkdir(parents=True, exist_ok=True)
        builder = _builder(originals, splits, shuffle)(data_dir=root, file_format="array_record")
        builder.download_and_prepare(download_config=config)
    except OSError as error:
        if find_prepared(root, originals.name) is None:  # else another process was faster
            raise UserError(
                f"--data_dir={root}: {originals.name} cannot be written there ({error.strerror or error}); "
                "free space or give another --data_dir"
            ) from None
    return Prepared(root, originals.name, "", originals.version)


def _examples(originals: Originals, split: str, x: np.ndarray, y: np.ndarray | None) -> Iterator[tuple[int, Any]]:
    """Examples as PNG bytes, which TFDS stores as they are; encoding arrays itself would need TensorFlow."""
    from PIL import Image

    for index, image in enumerate(x):
        png = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(png, format="PNG", compress_level=1)
        example: dict[str, Any] = {"image": png.getvalue()}
        if y is not None:
            example["label"] = int(y[index])
        if originals.ids:
            example["id"] = f"{split}_{index:05d}"
        yield index, example


def _builder(originals: Originals, splits: dict[str, Split], shuffle: bool) -> type[Any]:
    """A TFDS builder class of the stock one's name, version and features, which leaves TFDS's registry alone."""
    import tensorflow_datasets

    kinds = tensorflow_datasets.features
    features: dict[str, Any] = {"image": kinds.Image(shape=next(iter(splits.values()))[0].shape[1:])}
    if originals.label_names:
        features["label"] = kinds.ClassLabel(names=list(originals.label_names))
    if originals.ids:
        features["id"] = kinds.Text()

    class Builder(tensorflow_datasets.core.GeneratorBasedBuilder, skip_registration=True):
        name = originals.name
        VERSION = tensorflow_datasets.core.Version(originals.version)

        def _info(self) -> Any:
            return tensorflow_datasets.core.DatasetInfo(
                builder=self,
                description=f"{originals.name}, built from its original files.",
                features=kinds.FeaturesDict(features),
                supervised_keys=("image", "label") if originals.label_names else None,
                homepage=originals.url,
                disable_shuffling=not shuffle,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: _examples(originals, split, x, y) for split, (x, y) in splits.items()}

        def _generate_examples(self) -> Any:  # abstract in TFDS; the generators above are given directly
            raise NotImplementedError

    return Builder
