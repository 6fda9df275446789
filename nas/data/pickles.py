"""Reader for the pickles of a published data set that runs none of their code.

A pickle may call anything that can be imported. The files of CIFAR-10 need three names, which
rebuild NumPy arrays, and the built-in containers; all other names are refused. Strings of Python 2
are read as bytes.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nas.core.errors import CorruptFileError

RECONSTRUCT = np.empty(0).__reduce__()[0]
"""NumPy's function `_reconstruct`, whose module was renamed in NumPy 2."""
ALLOWED_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""Objects that a file may use, by module and name."""


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that refuses all names but `ALLOWED_NAMES`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the allowed object of that name."""
        try:
            return ALLOWED_NAMES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which no data file needs"
            ) from None


def _read(file: BinaryIO) -> Any:
    return _ArrayUnpickler(file, encoding="bytes").load()


def read_pickle(path: Path) -> Any:
    """Read a pickle of arrays, bytes, strings, numbers, lists and dictionaries.

    Raises `CorruptFileError` with the path if the file is missing, truncated, or uses other names.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except Exception as error:  # by its documentation, pickle may raise any exception here
        raise CorruptFileError(
            f"{path} is not a readable data file: {error or type(error).__name__}"
        ) from error
