"""The front as rows with the same values for terminals, CSV, JSON and Markdown."""

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
"""Default for the results of final trainings, which map a trial's number to its result."""
MEMBERSHIP = {
    Standing.CERTAIN: "certainly",
    Standing.PROBABLE: "probably",
    Standing.POSSIBLE: "perhaps",
    Standing.DOMINATED: "no longer",
}
"""Adverb for how sure it is that a trial is on the front."""


def rows(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> list[dict[str, Any]]:
    """Return a mapping for each member of the front.

    It holds the trial's number, the objectives in SI units with their intervals, counts, the result
    of final training, the standing, and the digest. The standing is left out without `sure`; with
    it, `trials` must be all trials of the study.
    """
    standing_of = standings(list(trials.values()), spec.objectives) if sure else {}
    return [_row(spec, trials[number], standing_of, finals.get(number)) for number in front.members]


def as_json(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> str:
    """Return the front as JSON, with its hypervolume and the architectures of its members.

    With `sure` it also lists the trials that may be on the front within the intervals.
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
    """Return the trials that are dominated by their values, but not beyond the intervals."""
    standing_of = standings(list(trials.values()), spec.objectives)
    return [number for number, standing in standing_of.items() if standing is Standing.POSSIBLE]


def as_csv(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> str:
    """Return a heading and a line of CSV for each member."""
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
    """Return a Markdown table with units and prefixes."""
    standing_of = standings_shown(spec, trials, front, sure=sure)
    names = [
        "trial",
        *(objective.metric for objective in spec.objectives),
        *(["on the front"] if standing_of else []),
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
                *([MEMBERSHIP[standing_of[number]]] if standing_of else []),
                *final,
            ]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def standings_shown(
    spec: StudySpec, trials: Mapping[int, Trial], front: ParetoFront, *, sure: bool
) -> Mapping[int, Standing]:
    """Return every trial's standing, or none without `sure` or if nothing is feasible."""
    return standings(list(trials.values()), spec.objectives) if sure and front.feasible else {}


def cells(objectives: Sequence[Objective], trial: Trial) -> list[str]:
    """Return a trial's objectives as text, with the intervals of measured ones."""
    return [cell(objective.metric, trial) for objective in objectives]


def cell(metric: str, trial: Trial) -> str:
    """Return one figure of a trial as text, with its interval if it was measured."""
    measurement = trial.evaluation.best_figure(metric)
    if measurement is None:
        return format_quantity(trial.evaluation.value(metric), "1", metric=metric)
    text = with_interval(measurement)
    if metric == "error" and len(measurement.samples) > 1:
        text += f", {len(measurement.samples)} seeds"
    if measurement.metric in CERTIFIED_METRICS.values():
        text += ", certified"
    return text


def _row(
    spec: StudySpec, trial: Trial, standing_of: Mapping[int, Standing], final: FinalResult | None
) -> dict[str, Any]:
    """Return one member's values."""
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
    row["violation"] = trial.violation(spec.objectives)
    if trial.number in standing_of:
        row["standing"] = standing_of[trial.number].value
    return row | {"digest": trial.architecture.digest[:12]}
