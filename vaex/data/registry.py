"""Loading of data sets by name."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vaex.data.measure import described
from vaex.data.spec import BINARIZE, DEQUANTIZE, Dataset, resolve
from vaex.data.storage.image_size import checked_size
from vaex.data.storage.layouts import layout_of
from vaex.data.storage.values import Reading
from vaex.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

ORIGINALS = ("binarized_mnist", "cifar10", "fashion_mnist", "freyfaces", "mnist", "omniglot")
STOCK = ("celeb_a", "dsprites", "shapes3d")  # prepared by TFDS's stock builders only
RENDERED = ("color_sprites", "sprites")
MOVING = ("bouncing_sprites", "rotating_sprites")
TREE = "branching_tree"
HDF5 = (".h5", ".hdf5")
NAMES = ("digits", TREE, *ORIGINALS, *RENDERED, *MOVING, *STOCK)


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    binarize: str = "auto",
    dequantize: str = "none",
    standardize: str = "auto",
    image_size: int | Sequence[int] | None = None,
    sequence_length: int | None = None,
    layout: str = "auto",
    kind: str = "auto",
    value_range: str = "auto",
    first_label: int = 0,
    columns: str | None = None,
    label_column: str | None = None,
    transparency: str = "auto",
    skip_unreadable: bool = False,
) -> Dataset:
    """Load a data set by name, or a user's own by its path.

    No split depends on a seed, so that test results of different seeds compare.

    Args:
      name: one of ``vaex.data.DATASETS``; PATH.npz; PATH.npy; PATH.csv; PATH.parquet; a folder of images; or tfds:NAME[:CONFIG].
      data_dir: folder of data sets; by default that of tensorflow-datasets, ~/tensorflow_datasets.
      manual_dir: folder of original files that you have downloaded.
      binarize: see ``resolve``. "auto" is as "none" here: it is resolved where the likelihood is chosen.
      dequantize, standardize: see ``resolve``.
      image_size: side, or (height, width), to which images of a folder, of tfds:NAME and of celeb_a and others that TFDS
        prepares are cropped and resized; the side at which sprites, still or moving, are rendered.
      sequence_length: frames of moving sprites.
      layout: of your own arrays, "hwc" for [n, h, w, c], "chw" for [n, c, h, w], "tc" and "ct" for series, "dhwc" and "cdhw" for
        volumes, "thwc" for sequences of images, or "vector" for examples read as vectors; by default "hwc", unless the axes look
        like something else (``layouts.arranged``).
      kind: of their examples, which stands for a layout: "image", "table", "series", "volume" or "sequence".
      value_range: of their values, "LOW:HIGH": these become 0 and 1, and values beyond are clipped. "real": vectors and series of
        numbers that are no intensities. By default the values tell (``values.recognise``).
      first_label: number of their first class.
      columns: of a table, types of columns in place of those that are inferred: NAME:TYPE joined by commas, TYPE one of
        ``vaex.data.columns.TYPES``, or drop.
      label_column: of a table, the column that becomes the label y, or columns, with commas between, that become conditions.
      transparency: of pixels in a folder of images: "auto" refuses transparent ones, "keep" keeps opacity as a fourth channel, and
        a colour, such as "white" or "#ff8000", is put behind them.
      skip_unreadable: leave out images of a folder that cannot be read, which ``Spec.skipped`` names, instead of refusing them.
    Returns: the three splits and their Spec, with what ``measure.described`` measures.
    Raises: UserError, with the remedy, for names, files and values that a user can fix.
    Example:
      >>> load("digits", binarize="dynamic").spec.protocol
      'digits_1397_200_200 dynamic_binarisation'
    """
    for flag, value, known in (("binarize", binarize, ("auto", *BINARIZE)), ("dequantize", dequantize, DEQUANTIZE)):
        if value not in known:
            raise UserError(f"--{flag}={value}: {nearest(str(value), known)}")
    reading = Reading(layout_of(layout, kind), value_range, first_label)
    of_arrays = {"layout": layout, "kind": kind, "value_range": value_range, "first_label": first_label}
    of_tables = {"columns": columns, "label_column": label_column}
    of_folders = {"transparency": transparency, "skip_unreadable": skip_unreadable}
    _refuse_elsewhere(of_arrays, name, "PATH.npz and PATH.npy, and {} is neither", fits=is_array_file(name))
    _refuse_elsewhere(of_tables, name, "PATH.csv and PATH.parquet, and {} is neither", fits=is_table_file(name))
    _refuse_elsewhere(of_folders, name, "a folder of images, and {} is none", fits=_is_folder(name))
    try:
        if name in MOVING:
            from vaex.data.synthetic.rendered import load_moving

            dataset = load_moving(name, image_size, sequence_length)
        elif sequence_length is not None:
            raise UserError(
                f"--sequence_length={sequence_length}: is for {' and '.join(MOVING)}, and {name} is neither; leave it out"
            )
        elif is_table_file(name) and image_size is None:
            from vaex.data.sources.tables import load_table

            dataset = load_table(name, **of_tables)
        else:
            dataset = _find(name, data_dir, manual_dir, checked_size(image_size), reading, of_folders)
    except OSError as error:
        raise UserError(f"--dataset={name}: {error}; check that the path exists and may be read") from None
    fixed = "none" if binarize == "auto" else binarize
    spec = resolve(described(dataset), binarize=fixed, dequantize=dequantize, standardize=standardize)
    return dataset._replace(spec=spec._replace(num_training_examples=dataset.num_training_examples))


def from_arrays(
    arrays: Mapping[str, ArrayLike],
    *,
    name: str = "arrays",
    layout: str = "auto",
    kind: str = "auto",
    value_range: str = "auto",
    first_label: int = 0,
) -> Dataset:
    """Return arrays in memory as a data set; see ``sources.in_memory.from_arrays``, and ``load`` for how they are read."""
    from vaex.data.sources import in_memory as source

    reading = Reading(layout_of(layout, kind), value_range, first_label)
    dataset = source.from_arrays(arrays, name=name, reading=reading)
    return dataset._replace(spec=described(dataset)._replace(num_training_examples=dataset.num_training_examples))


def from_table(
    table: object, *, name: str = "table", columns: str | None = None, label_column: str | None = None
) -> Dataset:
    """Return columns in memory as a data set; see ``Dataset.from_table``."""
    from vaex.data.sources.tables import from_columns

    dataset = from_columns(table, where=name, name=name, columns=columns, label_column=label_column)
    return dataset._replace(spec=dataset.spec._replace(num_training_examples=dataset.num_training_examples))


def from_batches(
    batches: Callable[..., Any] | Iterable[Any],
    *,
    layout: str = "auto",
    kind: str = "auto",
    value_range: str = "auto",
    **arguments: Any,
) -> Dataset:
    """Return batches as a data set; see ``Dataset.from_batches``."""
    from vaex.data.loader import batch_stream

    return batch_stream.from_batches(batches, reading=Reading(layout_of(layout, kind), value_range), **arguments)


def is_array_file(name: str) -> bool:
    """Tell whether the name of a data set is the path of an .npz, .npy or HDF5 file.

    Example:
      >>> is_array_file("faces.NPZ"), is_array_file("mnist")
      (True, False)
    """
    return pathlib.Path(name).suffix.lower() in (".npz", ".npy", *HDF5) and not name.startswith("tfds:")


def is_table_file(name: str) -> bool:
    """Tell whether the name of a data set is the path of a CSV or Parquet file.

    Example:
      >>> is_table_file("patients.CSV"), is_table_file("mnist")
      (True, False)
    """
    return pathlib.Path(name).suffix.lower() in (".csv", ".parquet") and not name.startswith("tfds:")


def _refuse_elsewhere(flags: Mapping[str, object], name: str, where: str, *, fits: bool) -> None:
    """Raise UserError for flags that are given although they are for other data than ``name``."""
    given = [flag for flag, value in flags.items() if value not in ("auto", 0, None)]
    if given and not fits:
        raise UserError(f"--{given[0]}={flags[given[0]]}: is for {where.format(name)}; leave it out")


def _is_known(name: str) -> bool:
    return name in NAMES or name.startswith("tfds:") or is_array_file(name) or is_table_file(name)


def _is_folder(name: str) -> bool:
    return bool(name) and not _is_known(name) and pathlib.Path(name).expanduser().is_dir()


def _find(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    manual_dir: str | os.PathLike[str] | None,
    image_size: tuple[int, int] | None,
    reading: Reading,
    of_folders: Mapping[str, Any],
) -> Dataset:
    path = pathlib.Path(name).expanduser()
    if _is_folder(name):
        from vaex.data.sources.image_folder import load_folder

        return load_folder(path, data_dir, image_size, **of_folders)
    resized = name in (*STOCK, "sprites") or name.startswith("tfds:")
    if image_size is not None and not resized and (_is_known(name) or path.exists()):
        raise UserError(
            f"--image_size={'x'.join(map(str, dict.fromkeys(image_size)))}: is for a folder of images, sprites, {', '.join(STOCK)} "
            f"and tfds:NAME, and {name} is none of these; leave it out"
        )
    if path.suffix.lower() == ".npz":
        return _load_npz(name, data_dir, reading)
    if path.suffix.lower() in (".npy", *HDF5):
        return _load_single(path, reading)
    if name == "digits":
        from vaex.data.sources.digits import load_digits

        return load_digits()
    if name == TREE:
        from vaex.data.synthetic.trees import load_tree

        return load_tree()
    if name in ORIGINALS:
        from vaex.data.sources import originals

        return originals.load_originals(originals.ORIGINALS[name], data_dir, manual_dir)
    if name in RENDERED:
        from vaex.data.synthetic.rendered import load_rendered

        return load_rendered(name, manual_dir, image_size)
    if name in STOCK:
        from vaex.data.sources.tfds import load_stock

        return load_stock(name, data_dir, image_size)
    if name.startswith("tfds:"):
        from vaex.data.sources.tfds import load_tfds

        return load_tfds(name, data_dir, image_size)
    alternatives = "your own data: PATH.npz with an array x, PATH.npy, PATH.csv, PATH.parquet, or a folder of images"
    if name and path.exists():
        raise UserError(
            f"--dataset={name}: is neither an .npz, .npy, .csv or .parquet file nor a folder; give {alternatives}"
        )
    raise UserError(
        f"--dataset={name}: no such data set; {nearest(name, NAMES)}; or give {alternatives}; or tfds:NAME[:CONFIG]"
    )


def _load_single(path: pathlib.Path, reading: Reading) -> Dataset:
    """Load an .npy or an HDF5 file."""
    from vaex.data.sources import hdf5, npy

    return hdf5.load_hdf5(path, reading) if path.suffix.lower() in HDF5 else npy.load_npy(path, reading)


def _load_npz(name: str, data_dir: str | os.PathLike[str] | None, reading: Reading) -> Dataset:
    """Load an .npz file of arrays, or of a sparse matrix."""
    from vaex.data.sources.npz import load_npz
    from vaex.data.sources.sparse import holds_sparse, load_sparse

    if not holds_sparse(name):
        return load_npz(name, data_dir, reading)
    if reading != Reading():
        raise UserError(
            f"{name}: holds a sparse matrix, which is read as vectors with the values that it has; leave out --layout, --kind, "
            "--value_range and --first_label"
        )
    return load_sparse(name)
