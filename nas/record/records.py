"""What the record says beyond trials: a study as a whole, and the files that belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from nas.core.errors import InvalidValueError
from nas.core.study import StudySpec
from nas.core.trial import TrialState, Usage


@dataclass(frozen=True, kw_only=True)
class StudyRecord:
    """One study of the record.

    `dataset` is the data set that was used, which may be the fallback of `spec.data`; `classes` its
    number of classes; `artifacts` the folder of its files; `numerics` what was decided on the
    device; `identity` what the names in its study file stood for (`nas.searching.identity`), None
    where that was not recorded; `version` the osa-nas that began it; `counts` its trials by state,
    zeros included.
    """

    spec: StudySpec
    dataset: str
    classes: int
    artifacts: str
    numerics: Mapping[str, Any]
    identity: Mapping[str, Any] | None
    version: str
    created_at: datetime
    counts: Mapping[TrialState, int]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.spec.name


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a study's trials come to: `counts` of different architectures by state, zeros included,
    and of `repeated` proposals, `skipped` of architectures that ended on purpose before any
    training; `searched_s` are seconds in which at least one trial was being worked on, `spent` what
    all took, `engine_s` what ended trials lasted beyond that and `engine_j` what their devices drew
    beyond that, None where it is not known; `replicates` of them with other seeds, and what those
    took, `spent_again`; the same of final trainings, `finals` and `spent_finally`; numbers and
    reasons of the `failed`, numbers of the `running` ones.
    """

    counts: Mapping[TrialState, int]
    repeated: int
    skipped: int
    searched_s: float
    spent: Usage
    engine_s: float | None
    engine_j: float | None
    replicates: int
    spent_again: Usage
    finals: int
    spent_finally: Usage
    failed: tuple[tuple[int, str], ...]
    running: tuple[int, ...]


class ArtifactKind(StrEnum):
    """What a file is for."""

    CHECKPOINT = "checkpoint"
    """Weights at a rung, to go on from."""
    WEIGHTS = "weights"
    """Weights of a finished network."""
    EXPORT = "export"
    """A file of an exported bundle."""


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file. `path` is relative to the study's artifact folder, with forward slashes; `sha256`
    is in hex.
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
            message = f"an artifact's path must be inside the artifact folder, not {self.path!r}"
            raise InvalidValueError(message)
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            message = f"sha256 of {self.path} must be 64 hexadecimal digits, not {self.sha256!r}"
            raise InvalidValueError(message)
        if self.size_bytes < 0:
            message = f"size_bytes of {self.path} must not be negative, not {self.size_bytes}"
            raise InvalidValueError(message)
