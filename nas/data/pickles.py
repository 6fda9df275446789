"""Reading the pickles of a published data set without running what a pickle can run.

A pickle may call anything importable. The files of CIFAR-10 need three names to rebuild NumPy
arrays and the built-in containers, so no other name is let through. Strings of Python 2 are read as
bytes.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nas.core.errors import CorruptFileError

ARRAY = np.empty(0).__reduce__()[0]  # `_reconstruct`: its module was renamed in NumPy 2
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): ARRAY,
    ("numpy._core.multiarray", "_reconstruct"): ARRAY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the names in `ALLOWED` and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """The allowed object of that name."""
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no data file needs"
            ) from None


def _read(file: BinaryIO) -> Any:
    return _ArrayUnpickler(file, encoding="bytes").load()


def read_pickle(path: Path) -> Any:
    """What the pickle at `path` holds: arrays, bytes, strings, numbers, lists, dictionaries.

    Raises `CorruptFileError` with the path where it is missing, cut off, or asks for anything else.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except (
        Exception
    ) as error:  # a broken pickle can raise any exception, says the documentation of pickle
        raise CorruptFileError(
            f"{path} is not a readable data file: {error or type(error).__name__}"
        ) from error
