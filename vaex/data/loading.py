"""From the name of a data set to its arrays and Spec."""

from __future__ import annotations

import os
import pathlib

from vaex.data.spec import BINARIZE, DEQUANTIZE, Dataset, resolve
from vaex.errors import UserError, nearest

NAMES = ("digits", "fashion_mnist", "mnist")


def load(
    name: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    data_seed: int = 0,
    binarize: str = "auto",
    dequantize: str = "none",
) -> Dataset:
    """Load a data set by name, or an .npz file by its path.

    Args:
      name: one of ``vaex.data.DATASETS``; PATH.npz; or tfds:NAME[:CONFIG].
      data_dir: where tensorflow-datasets keeps prepared data; by default its own folder, ~/tensorflow_datasets.
      manual_dir: where original files lie that you have downloaded.
      data_seed: checked here and used by the order of examples (``resident_feed``); no split depends on it, so test
        numbers of different seeds compare.
      binarize: see ``resolve``. "auto" leaves it open, as "none", for whoever chooses the likelihood to resolve.
      dequantize: see ``resolve``.
    Returns: the three splits and their Spec.
    Raises: UserError, with the remedy, for anything that a user can mend: names, files, values.
    Example:
      >>> load("digits", binarize="dynamic").spec.protocol
      'digits_1397_200_200 dynamic_binarisation'
    """
    for flag, value, known in (("binarize", binarize, ("auto", *BINARIZE)), ("dequantize", dequantize, DEQUANTIZE)):
        if value not in known:
            raise UserError(f"--{flag}={value}: {nearest(str(value), known)}")
    if not 0 <= data_seed < 2**64:
        raise UserError(f"--data_seed={data_seed}: give a number from 0 to 2**64 - 1")
    try:
        dataset = _find(name, data_dir, manual_dir)
    except OSError as error:
        raise UserError(f"--dataset={name}: {error}; check that the path exists and may be read") from None
    spec = resolve(dataset.spec, binarize="none" if binarize == "auto" else binarize, dequantize=dequantize)
    return dataset._replace(spec=spec)


def _find(name: str, data_dir: str | os.PathLike[str] | None, manual_dir: str | os.PathLike[str] | None) -> Dataset:
    if name.lower().endswith(".npz"):
        from vaex.data.npz import load_npz

        return load_npz(name)
    if name == "digits":
        from vaex.data.digits import load_digits

        return load_digits()
    if name in ("mnist", "fashion_mnist"):
        from vaex.data.originals import ORIGINALS, load_originals

        return load_originals(ORIGINALS[name], data_dir, manual_dir)
    if name.startswith("tfds:"):
        from vaex.data.tfds import load_tfds

        return load_tfds(name, data_dir)
    own_files = "a file of your own, PATH.npz, with an array x"
    if name and pathlib.Path(name).expanduser().exists():
        raise UserError(f"--dataset={name}: is not an .npz file; give {own_files}")
    raise UserError(
        f"--dataset={name}: no data set is called so; {nearest(name, NAMES)}; or give {own_files}, or tfds:NAME[:CONFIG]"
    )
