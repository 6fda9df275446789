"""NAS-Bench-201's 15,625 cells as a CSV table for `nas bench search`.

    python nas_bench_201.py data.anb baseline_accuracy nas-bench-201.csv

`data.anb` is in the package analog-nasbench 0.1.3, which names no licence, and is therefore not
stored here. It has CIFAR-10 accuracies of every cell: `baseline_accuracy` in floating point,
`analog_accuracy` on simulated analog hardware.

MACs and parameters are computed: each of 6 edges occurs in 5 cells at each of 3 resolutions, with
0.262 million MACs as a 1x1 convolution and 9 times as many as a 3x3 convolution. The rest of the
network has 7.78 million MACs and 73,306 parameters.
"""

import csv
import pickle
import sys
from pathlib import Path
from typing import Any

OPERATIONS = ("skip", "none", "conv3x3", "conv1x1", "pool")
"""Operations in the order of the package's numbers. The order was derived from the counts and mean
accuracies of networks with a single operation.
"""


class _Record:
    """An object with the attributes of the pickled one, in place of any class of the package."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    """An unpickler that runs no code of the pickle."""

    def find_class(self, module: str, name: str) -> Any:
        """Return `_Record` or a class of NumPy, and refuse all others."""
        if module == "analognasbench.data":
            return _Record
        if module.startswith("numpy") and name in {"scalar", "dtype"}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"the file needs {module}.{name}, which is not allowed")


def main() -> None:
    """Read the accuracies, compute the costs, and write the table."""
    source, column, target = sys.argv[1:]
    with Path(source).open("rb") as file:
        cells = _Unpickler(file).load()
    with Path(target).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(
            [*(f"choice:edge{i}" for i in range(6)), "accuracy:0", "cost:macs", "cost:parameters"]
        )
        for cell, record in cells.items():
            three, one = (
                sum(OPERATIONS[i] == name for i in cell) for name in ("conv3x3", "conv1x1")
            )
            macs = 7.78 + 15 * 0.262144 * (9 * three + one)
            parameters = 0.073306 + 0.24304 * three + 0.028 * one
            rows.writerow(
                [
                    *(OPERATIONS[i] for i in cell),
                    float(getattr(record, column)),
                    round(macs, 5),
                    round(parameters, 6),
                ]
            )


if __name__ == "__main__":
    main()
