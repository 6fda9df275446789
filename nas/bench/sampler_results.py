"""Results of sampler comparisons as a CSV file, one row for each sampler, seed and evaluation,
compressed if the name ends in `.gz`.

Whole runs are appended under a lock. Therefore several processes can fill one file, and a process
that was killed resumes.
"""

import csv
import fcntl
import gzip
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from nas.bench.samplers import DIGITS, Run
from nas.core.errors import NasError, WriteError

COLUMNS = ("contest", "sampler", "seed", "evaluation", "network", "hypervolume", "seconds")
"""`contest` is the key of a comparison: that of the benchmark problem, and how it was searched.
`network` holds the position of each choice's value.
"""


@dataclass(frozen=True, kw_only=True)
class ComparisonFile:
    """The runs of sampler comparisons at `path`. If there is no file, there are no runs."""

    path: Path

    def runs(self, comparison: str, budget: int) -> dict[str, dict[int, Run]]:
        """Return the runs of this comparison by sampler and seed, cut to the budget. Shorter ones
        are left out.

        Raises `NasError` if the file holds something else.
        """
        runs: dict[str, dict[int, Run]] = {}
        for (_, sampler, seed), group in groupby(self._rows(comparison), self._run_of()):
            rows = list(group)[:budget]
            if len(rows) == budget:
                runs.setdefault(sampler, {})[int(seed)] = Run(
                    networks=[tuple(map(int, row["network"].split("-"))) for row in rows],
                    volumes=np.array([float(row["hypervolume"]) for row in rows]),
                    seconds=np.array([float(row["seconds"]) for row in rows]),
                )
        return runs

    def append(self, comparison: str, sampler: str, seed: int, run: Run) -> None:
        """Append a run. Missing folders are created. Raises `WriteError`."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for i, (network, volume, seconds) in enumerate(
            zip(run.networks, run.volumes, run.seconds, strict=True)
        ):
            rows.writerow(
                (
                    comparison,
                    sampler,
                    seed,
                    i + 1,
                    "-".join(map(str, network)),
                    f"{volume:.{DIGITS}f}",
                    f"{seconds:.2g}",
                )
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                header = "" if os.fstat(file.fileno()).st_size else ",".join(COLUMNS) + "\n"
                data = (header + text.getvalue()).encode()
                file.write(gzip.compress(data, mtime=0) if self._is_compressed else data)
        except OSError as error:
            raise WriteError(self.path, error) from error

    @staticmethod
    def _run_of() -> Callable[[Mapping[str, str]], tuple[int, str, str]]:
        """Return a function from a row to its run, for the rows of a file in order.

        A run begins with evaluation 1, also if one seed was run twice.
        """
        count = 0

        def key(row: Mapping[str, str]) -> tuple[int, str, str]:
            nonlocal count
            count += row["evaluation"] == "1"
            return count, row["sampler"], row["seed"]

        return key

    @property
    def _is_compressed(self) -> bool:
        return self.path.suffix == ".gz"

    def _rows(self, comparison: str) -> Iterator[dict[str, str]]:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        try:
            with (
                gzip.open(self.path, "rt", encoding="utf-8")
                if self._is_compressed
                else self.path.open(encoding="utf-8")
            ) as file:
                rows = csv.DictReader(file)
                if tuple(rows.fieldnames or ()) != COLUMNS:
                    raise NasError(
                        f"{self.path} holds no sampler comparisons; its columns must be "
                        f"{', '.join(COLUMNS)}"
                    )
                yield from (row for row in rows if row["contest"] == comparison)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise NasError(f"{self.path} cannot be read: {error}") from error
