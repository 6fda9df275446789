"""Baselines of a study: whether they are finished, and which members of the front beat them."""

from collections.abc import Sequence

from nas.core.study import Objective, StudySpec
from nas.core.trial import Baseline, Trial


def is_finished(spec: StudySpec, baseline: Baseline) -> bool:
    """Return whether the baseline has all figures and all rungs of a complete trial."""
    rungs = len(spec.rungs) if spec.needs_training else 0
    return baseline.losses(spec.objectives) is not None and len(baseline.evaluation.rungs) >= rungs


def beaten_by(
    baseline: Baseline, members: Sequence[Trial], objectives: Sequence[Objective]
) -> list[int]:
    """Return the members that are better than the baseline in one objective and worse in none.

    They are compared by their values. There are none for a baseline without all values.
    """
    losses = baseline.losses(objectives)
    if losses is None:
        return []
    return [
        member.number
        for member in members
        if (own := member.losses(objectives)) is not None
        and own != losses
        and all(a <= b for a, b in zip(own, losses, strict=True))
    ]
