"""A user's arrays in an HDF5 file, read by h5py (extra "hdf5")."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np

from vaex.data.conditions import CONDITION_NAMES
from vaex.data.sources.in_memory import NAMES, from_arrays
from vaex.data.spec import Dataset
from vaex.data.storage import host_memory, values
from vaex.data.storage.known_factors import FACTOR_NAMES
from vaex.errors import MissingPackageError, UserError, nearest


def load_hdf5(path: str | pathlib.Path, reading: values.Reading = values.AS_THEY_ARE) -> Dataset:
    """Load the arrays x, or x_train, ..., y, factors and lengths of an HDF5 file, named as those of an .npz file are.

    Args:
      path: of the file.
      reading: how axes, values and labels are read.
    Raises: UserError for data that vaex cannot use, and for arrays that do not fit in memory; MissingPackageError without h5py.
    """
    path = pathlib.Path(path).expanduser()
    if importlib.util.find_spec("h5py") is None:
        raise MissingPackageError(f'{path}: reading HDF5 needs h5py; run: pip install "vaex-jax[hdf5]"')
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path, which starts from {pathlib.Path.cwd()}")
    try:
        arrays = _arrays(path)
    except OSError as error:
        raise UserError(f"{path}: is not an HDF5 file, or was cut short ({error}); write or copy it again") from None
    return from_arrays(arrays, name=path.stem, reading=reading)


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Return the arrays at the top of the file, texts as such."""
    import h5py

    known, arrays = (*NAMES, CONDITION_NAMES, FACTOR_NAMES), dict[str, np.ndarray]()
    with h5py.File(path, "r") as file:
        for name, entry in file.items():
            if name not in known:
                raise UserError(
                    f"{path}: has an entry called {name!r}; {nearest(name, known)}. Rename it or leave it out"
                )
            if not isinstance(entry, h5py.Dataset):
                raise UserError(
                    f"{path}: {name} is a group, expected an array; store arrays x, y at the top of the file"
                )
            if entry.nbytes > host_memory.SHARE * host_memory.free_memory():
                raise UserError(
                    f"{path}: {name} of {entry.nbytes / 1e9:.1f} GB does not fit in memory; write it as an .npy file, which stays "
                    "on the disk"
                )
            texts = h5py.check_string_dtype(entry.dtype) is not None
            arrays[name] = np.asarray(entry.asstr()[()], str) if texts else np.asarray(entry[()])
    return arrays
