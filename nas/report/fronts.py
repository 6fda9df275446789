"""The front as rows: what stands in them is the same for terminals, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from nas.analysis.finals import FinalResult
from nas.core.measurement import Kind
from nas.core.pareto import ParetoFront, Standing, standings
from nas.core.study import Objective, StudySpec
from nas.core.trial import CERTIFIED_METRICS, Trial
from nas.core.units import format_quantity, with_interval

NO_FINALS: Mapping[int, FinalResult] = MappingProxyType({})
SURE = {
    Standing.CERTAIN: "certainly",
    Standing.PROBABLE: "probably",
    Standing.POSSIBLE: "perhaps",
    Standing.DOMINATED: "no longer",
}
"""Whether a trial is on the front, as people read it."""


def rows(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> list[dict[str, Any]]:
    """One mapping for each member: trial, every objective's value in SI units with its interval,
    counts, what final training gave, how sure it is that the trial is a member (for which all
    trials must be given), digest.
    """
    known = standings(list(trials.values()), spec.objectives) if sure else {}
    return [_row(spec, trials[number], known, finals.get(number)) for number in front.members]


def as_json(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> str:
    """The front with its hypervolume and the architectures of its members, and who may be on it
    too.
    """
    members = [
        {**row, "architecture": trials[row["trial"]].architecture.to_dict()}
        for row in rows(spec, trials, front, sure=sure, finals=finals)
    ]
    others = {"possible": possible(spec, trials)} if sure else {}
    return json.dumps(
        {
            "study": spec.name,
            "feasible": front.feasible,
            "hypervolume": front.hypervolume,
            "after": front.after,
            "members": members,
            **others,
        },
        indent=2,
    )


def possible(spec: StudySpec, trials: Mapping[int, Trial]) -> list[int]:
    """Trials that others dominate by their values, but none beyond the intervals."""
    sure = standings(list(trials.values()), spec.objectives)
    return [number for number, standing in sure.items() if standing is Standing.POSSIBLE]


def as_csv(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> str:
    """One line for each member under a line of names."""
    lines = rows(spec, trials, front, sure=sure, finals=finals)
    out = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line)) or ["trial"]
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def as_markdown(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> str:
    """A table of Markdown with the figures as people read them."""
    known = standings_shown(spec, trials, front, sure=sure)
    names = [
        "trial",
        *(objective.metric for objective in spec.objectives),
        *(["on the front"] if known else []),
    ]
    if trained := any(number in finals for number in front.members):
        names.append("test error, trained fully")
    lines = [names, ["---"] * len(names)]
    for number in front.members:
        final = [str(finals.get(number, "-"))] if trained else []
        lines.append(
            [
                str(number),
                *cells(spec.objectives, trials[number]),
                *([SURE[known[number]]] if known else []),
                *final,
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def standings_shown(
    spec: StudySpec, trials: Mapping[int, Trial], front: ParetoFront, *, sure: bool
) -> Mapping[int, Standing]:
    """How sure it is of every trial that it is on the front; of none unless that is asked and
    something is feasible.
    """
    return standings(list(trials.values()), spec.objectives) if sure and front.feasible else {}


def cells(objectives: Sequence[Objective], trial: Trial) -> list[str]:
    """What a terminal shows of a trial: its objectives, with intervals where they were measured."""
    return [cell(objective.metric, trial) for objective in objectives]


def cell(metric: str, trial: Trial) -> str:
    """One figure of a trial, with its interval where it was measured."""
    measurement = trial.evaluation.best_figure(metric)
    if measurement is not None:
        seeds = (
            f", {len(measurement.samples)} seeds"
            if metric == "error" and len(measurement.samples) > 1
            else ""
        )
        return (
            with_interval(measurement)
            + seeds
            + (", certified" if measurement.metric in CERTIFIED_METRICS.values() else "")
        )
    return format_quantity(trial.evaluation.value(metric), "1", metric=metric)


def _row(
    spec: StudySpec, trial: Trial, sure: Mapping[int, Standing], final: FinalResult | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"trial": trial.number}
    for metric in (*(o.metric for o in spec.objectives), *trial.evaluation.measurements):
        if metric in row:
            continue
        row[metric] = trial.evaluation.value(metric)
        measurement = trial.evaluation.measurements.get(metric)
        if measurement is not None and measurement.kind is not Kind.COUNTED:
            row |= {f"{metric}_low": measurement.ci_low, f"{metric}_high": measurement.ci_high}
    if final is not None:
        row |= {
            "final_error": final.mean,
            "final_deviation": final.deviation,
            "final_seeds": len(final.errors),
        }
    standing = {"standing": sure[trial.number].value} if trial.number in sure else {}
    return row | {
        "violation": trial.violation(spec.objectives),
        **standing,
        "digest": trial.architecture.digest[:12],
    }
