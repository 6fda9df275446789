"""Results of contests as a CSV file, one row for each sampler, seed and evaluation; gzipped where
its name ends so.

Runs are appended whole and under a lock, so several programs may fill one file, and one that was
killed goes on.
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
"""`contest` is the landscape's key and how it was searched; `network` holds the position of each
choice's value.
"""


@dataclass(frozen=True, kw_only=True)
class ContestFile:
    """The runs that `path` holds of contests with one budget; no file is an empty one."""

    path: Path

    def runs(self, contest: str, budget: int) -> dict[str, dict[int, Run]]:
        """Of this contest, by sampler and seed, cut to the budget; shorter ones are left out.

        Raises `NasError` where the file is something else.
        """
        found: dict[str, dict[int, Run]] = {}
        for (_, sampler, seed), each in groupby(self._rows(contest), self._begun()):
            rows = list(each)
            if len(rows) >= budget:
                found.setdefault(sampler, {})[int(seed)] = Run(
                    networks=[tuple(map(int, row["network"].split("-"))) for row in rows[:budget]],
                    volumes=np.array([float(row["hypervolume"]) for row in rows[:budget]]),
                    seconds=np.array([float(row["seconds"]) for row in rows[:budget]]),
                )
        return found

    def append(self, contest: str, sampler: str, seed: int, run: Run) -> None:
        """Keep a run, folders included. Raises `WriteError`."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for i, (network, volume, seconds) in enumerate(
            zip(run.networks, run.volumes, run.seconds, strict=True)
        ):
            rows.writerow(
                (
                    contest,
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
                head = "" if os.fstat(file.fileno()).st_size else ",".join(COLUMNS) + "\n"
                written = (head + text.getvalue()).encode()
                file.write(gzip.compress(written, mtime=0) if self._zipped else written)
        except OSError as error:
            raise WriteError(self.path, error) from error

    @staticmethod
    def _begun() -> Callable[[Mapping[str, str]], tuple[int, str, str]]:
        """Tells the runs of a file apart: each begins with evaluation 1, also where one seed was
        run twice.
        """
        count = 0

        def key(row: Mapping[str, str]) -> tuple[int, str, str]:
            nonlocal count
            count += row["evaluation"] == "1"
            return count, row["sampler"], row["seed"]

        return key

    @property
    def _zipped(self) -> bool:
        return self.path.suffix == ".gz"

    def _rows(self, contest: str) -> Iterator[dict[str, str]]:
        if not self.path.exists() or self.path.stat().st_size == 0:
            return
        try:
            with gzip.open(self.path, "rt") if self._zipped else self.path.open() as file:
                rows = csv.DictReader(file)
                if tuple(rows.fieldnames or ()) != COLUMNS:
                    raise NasError(
                        f"{self.path} holds no contests; its columns must be {', '.join(COLUMNS)}"
                    )
                yield from (row for row in rows if row["contest"] == contest)
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise NasError(f"{self.path} cannot be read: {error}") from error
