"""Values of the record beside trials: a study, its summary, and its files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.core.errors import InvalidValueError
from nas.core.preparation import Preparation
from nas.core.search_space import Params
from nas.core.study import StudySpec
from nas.core.trial import TrialState, Usage


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """One study of the record."""

    spec: StudySpec
    dataset: str
    """Name of the data set that was used, which may be the fallback of `spec.data`."""
    classes: int
    """Number of classes of the data set."""
    artifacts: str
    """Folder of the study's files."""
    numerics: Mapping[str, Any]
    """Decisions that were made on the device, such as the number format."""
    identity: Mapping[str, Any] | None
    """The parts that the names in its study file stood for (`nas.searching.identity`), and its
    folder.

    None if they were not recorded.
    """
    version: str
    """Version of osa-nas that began the study."""
    created_at: datetime
    counts: Mapping[TrialState, int]
    """Number of trials by state, zeros included."""
    archived_at: datetime | None = None
    """Time since which the study is hidden from lists, None if it is not."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name

    @property
    def folder(self) -> str | None:
        """Folder of the study file, None if it was not recorded."""
        return (self.identity or {}).get("folder")

    @property
    def is_prepared(self) -> bool:
        """False for a copy under other settings that was not searched yet. Its data and number
        formats are still those of the original.
        """
        return bool((self.identity or {}).get("is_prepared", True))

    @property
    def start_networks(self) -> Mapping[str, Params]:
        """Params of the start networks that the study file names, by name."""
        names: Mapping[str, Params] = (self.identity or {}).get("first", {})
        return names

    @property
    def preparation(self) -> Preparation:
        """The data and the device that the study began with."""
        return Preparation.from_dict(self.numerics)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Counts and sums over the trials of a study."""

    counts: Mapping[TrialState, int]
    """Number of different architectures by state, zeros included."""
    repeated: int
    """Number of proposals of an architecture that had been proposed before."""
    skipped: int
    """Number of architectures that were stopped before any training."""
    searched_s: float
    """Seconds in which at least one trial was worked on."""
    spent: Usage
    """Resources that all trials used."""
    engine_s: float | None
    """Seconds of ended trials beyond `spent`, None if not known."""
    engine_j: float | None
    """Energy of their devices beyond `spent`, in joules, None if not known."""
    replicates: int
    """Number of trainings of these architectures with other seeds."""
    spent_again: Usage
    """Resources that the replicates used."""
    finals: int
    """Number of finished final trainings."""
    spent_finally: Usage
    """Resources that the final trainings used."""
    failed: tuple[tuple[int, str], ...]
    """Number and reason of each failed trial."""
    running: tuple[int, ...]
    """Numbers of the running trials."""
    copies: Mapping[TrialState, int] = field(default_factory=dict)
    """Number of architectures whose evaluation was made elsewhere, by state. They count in `counts`
    only.
    """

    @property
    def copied(self) -> int:
        """Number of architectures whose evaluation was made elsewhere."""
        return sum(self.copies.values())


def covered_s(spans: NDArray[np.float64], until: float = math.inf) -> float:
    """Return the seconds until a moment that are in at least one of the spans, of shape (n, 2)."""
    starts, ends = np.minimum(spans[spans[:, 0].argsort()], until).T  # (n,), (n,)
    busy_until = np.maximum.accumulate(np.append(-math.inf, ends))[:-1]
    return float(np.clip(ends - np.maximum(starts, busy_until), 0.0, None).sum())


class ArtifactKind(StrEnum):
    """Purpose of a file."""

    CHECKPOINT = "checkpoint"
    """Weights at a rung, from which a training resumes."""
    WEIGHTS = "weights"
    """Weights of a finished network."""
    EXPORT = "export"
    """A file of an exported bundle."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file of a study.

    `path` is relative to the artifact folder of the study, with forward slashes. `sha256` is in
    hexadecimal digits.
    """

    path: str
    sha256: str
    size_bytes: int
    kind: ArtifactKind
    trial: int | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", ArtifactKind(self.kind))
        path = PurePosixPath(self.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise InvalidValueError(
                f"an artifact's path must be inside the artifact folder, not {self.path!r}"
            )
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise InvalidValueError(
                f"sha256 of {self.path} must be 64 hexadecimal digits, not {self.sha256!r}"
            )
        if self.size_bytes < 0:
            raise InvalidValueError(
                f"size_bytes of {self.path} must not be negative, not {self.size_bytes}"
            )
