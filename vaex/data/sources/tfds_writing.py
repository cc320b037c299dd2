"""Writing of TFDS records from original files, without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from vaex.data.sources.formats import Split
from vaex.data.sources.original_files import OriginalFiles, read_files
from vaex.data.sources.tfds_records import TfdsRecords, find_records
from vaex.errors import UserError


def write_records(
    originals: OriginalFiles, root: pathlib.Path, manual: pathlib.Path, *, shuffle: bool = False
) -> TfdsRecords:
    """Write TFDS records of the files in ``manual``, in the original order, readable by the stock ``tfds.data_source``.

    Args:
      originals: the data set.
      root: TFDS's data folder; extracted archives go to a folder of this data set alone.
      manual: folder of the files, already verified.
      shuffle: write the examples in TFDS's pseudo-random order, as its stock builder does.
    Raises: UserError where tensorflow-datasets is missing or the disk refuses; no partial files are left.
    Example:
      >>> write_records(mnist, pathlib.Path("data"), pathlib.Path("mnist_files"))  # doctest: +SKIP
      TfdsRecords(root=PosixPath('data'), name='mnist', config='', version='3.0.1')
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise UserError(
            f'--dataset={originals.name} needs tensorflow-datasets ({error}); run: pip install "vaex-jax[train]"'
        ) from None
    splits = read_files(originals, manual)
    config = tensorflow_datasets.download.DownloadConfig(
        manual_dir=manual, extract_dir=root / "downloads" / "extracted" / originals.name, try_download_gcs=False
    )
    try:
        root.mkdir(parents=True, exist_ok=True)
        builder = _builder(originals, splits, shuffle)(data_dir=root, file_format="array_record")
        print(
            f"preparing {originals.name} in {root} from the files in {manual}; nothing is downloaded", file=sys.stderr
        )
        with contextlib.redirect_stdout(io.StringIO()):  # where TFDS says that it is downloading
            builder.download_and_prepare(download_config=config)
    except OSError as error:
        if find_records(root, originals.name) is None:  # another process may have been faster
            raise UserError(
                f"--data_dir={root}: {originals.name} cannot be written there ({error.strerror or error}); "
                "free space or give another --data_dir"
            ) from None
    return TfdsRecords(root, originals.name, "", originals.version)


def png_examples(
    originals: OriginalFiles, split: str, x: np.ndarray, y: np.ndarray | None
) -> Iterator[tuple[int, Any]]:
    """Yield numbered examples with images as PNG bytes, which TFDS stores unchanged; encoding arrays would need TensorFlow."""
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


def _builder(originals: OriginalFiles, splits: dict[str, Split], shuffle: bool) -> type[Any]:
    """Return a TFDS builder class with the name, version and features of the stock one, outside TFDS's registry."""
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

        def _split_generators(self, dl_manager: object) -> dict[str, Any]:
            return {split: png_examples(originals, split, x, y) for split, (x, y) in splits.items()}

        def _generate_examples(self) -> Any:  # abstract in TFDS, but unused: _split_generators returns the generators
            raise NotImplementedError

    return Builder
