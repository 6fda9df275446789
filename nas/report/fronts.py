"""The front as rows with the same values for terminals, CSV, JSON and Markdown."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

from nas.analysis.baselines import beaten_by
from nas.analysis.finals import FinalResult
from nas.analysis.posterior import UnbiasedHypervolume
from nas.analysis.study_front import StudyFront, standings_among, study_front
from nas.core.checks import shortlist
from nas.core.measurement import Kind
from nas.core.pareto import ParetoFront, Standing
from nas.core.pareto import front as front_of
from nas.core.study import StudySpec, TrainedMetric
from nas.core.trial import Baseline, Evaluated, Trial, TrialState, is_certified
from nas.core.units import format_duration, format_quantity, format_trained, with_interval
from nas.record import StudyRecord
from nas.report.history import front_at

if TYPE_CHECKING:
    from nas.record import Store


PARAMETERS = "parameters"
"""The metric that has a column of its own unless it is an objective."""
MAX_BEATING = 4
"""At most so many members that beat a baseline are named."""
NO_FINALS: Mapping[int, FinalResult] = MappingProxyType({})
"""Default for the results of final trainings, which map a trial's number to its result."""
MEMBERSHIP = {
    Standing.CERTAIN: "certainly",
    Standing.PROBABLE: "probably",
    Standing.POSSIBLE: "perhaps",
    Standing.DOMINATED: "no longer",
}
"""Adverb for how sure it is that a trial is on the front."""


@dataclass(frozen=True, kw_only=True)
class ShownFront:
    """A front, its members, how sure each membership is, and its hypervolume by new seeds.

    `standings` are None if they were not computed.
    """

    front: ParetoFront
    trials: Mapping[int, Trial]
    standings: Mapping[int, Standing] | None = None
    unbiased: UnbiasedHypervolume | None = None

    @classmethod
    def of(cls, now: StudyFront) -> Self:
        """Return the present front of a study."""
        return cls(
            front=now.front, trials=now.members, standings=now.standings, unbiased=now.unbiased
        )


def read_front(
    store: "Store",
    record: StudyRecord,
    at: int | None = None,
    *,
    sure: bool = True,
    limit: int | None = None,
) -> ShownFront:
    """Read the front as it is now, or as it was after `at` finished trials.

    The present one uses the mean errors of networks that were trained with several seeds. Unless
    `sure`, only its first `limit` members are read. Raises `InvalidValueError` if there was no
    front after `at` trials.
    """
    name, objectives = record.name, record.spec.objectives
    if at is None and sure:
        return ShownFront.of(study_front(store, record.spec))
    counts = store.summary(name).counts
    ended = sum(counts.values()) - counts[TrialState.RUNNING]
    standings = None
    if at is None:
        newest = store.newest_front(name) or front_of([], objectives)
        pareto_front = replace(newest, after=ended)
    else:
        pareto_front = front_at(store.fronts(name), at, ended)
        if sure:
            standings = standings_among(store, name, objectives, store.first_finished(name, at))
    trials = store.trials(name, pareto_front.members[: None if sure else limit])
    return ShownFront(
        front=pareto_front,
        trials={trial.number: trial for trial in trials},
        standings=standings,
    )


def rows(
    spec: StudySpec,
    shown: ShownFront,
    *,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> list[dict[str, Any]]:
    """Return a mapping for each member of the front.

    It holds the trial's number, the objectives in SI units with their intervals, counts, the result
    of final training, the standing if it was computed, and the digest.
    """
    standing_of = shown.standings or {}
    return [
        _row(spec, shown.trials[number], standing_of, finals.get(number))
        for number in shown.front.members
    ]


def front_values(
    spec: StudySpec,
    shown: ShownFront,
    *,
    finals: Mapping[int, FinalResult] = NO_FINALS,
    baselines: Sequence[Baseline] = (),
    conditions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the front as plain values: its hypervolume, its members with architectures, the
    conditions of their figures if they are given, and the baselines.

    With standings it also lists the trials that may be on the front within the intervals.
    """
    front = shown.front
    members = [
        {**row, "architecture": shown.trials[row["trial"]].architecture.to_dict()}
        for row in rows(spec, shown, finals=finals)
    ]
    others = {} if shown.standings is None else {"possible": possible(shown.standings)}
    return {
        "study": spec.name,
        "feasible": front.feasible,
        "hypervolume": front.hypervolume,
        "after": front.after,
        "members": members,
        **({} if conditions is None else {"conditions": conditions}),
        **others,
        "baselines": baseline_rows(spec, baselines, list(shown.trials.values())),
    }


def front_cells(
    spec: StudySpec,
    shown: ShownFront,
    *,
    limit: int | None = None,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> list[list[str]]:
    """Return the headings of a table of the front, and a row of texts for each member, for at most
    `limit` members.

    With standings it shows how sure each membership is. `finals` are the results of final
    trainings, by trial.
    """
    columns: dict[str, Callable[[Trial], str]] = {"trial": lambda trial: str(trial.number)}
    for objective in spec.objectives:
        columns[objective.key] = partial(cell, objective.key, spec=spec)
    columns.setdefault(PARAMETERS, _parameters)
    if standings := shown.standings:
        columns["on the front"] = lambda trial: MEMBERSHIP[standings[trial.number]]
    if any(number in finals for number in shown.front.members):
        for heading, metric in final_headings(spec).items():
            columns[heading] = partial(_final_cell, finals, metric)
    members = [shown.trials[number] for number in shown.front.members[:limit]]
    return [[*columns], *([text(trial) for text in columns.values()] for trial in members)]


def baseline_rows(
    spec: StudySpec, baselines: Sequence[Baseline], members: Sequence[Trial]
) -> list[dict[str, Any]]:
    """Return a mapping for each baseline.

    It holds its figures in SI units as those of `rows`, and the members of the front that beat it.
    """
    return [
        {
            "baseline": each.name,
            **_figures(spec, each),
            "beaten_by": beaten_by(each, members, spec.objectives),
        }
        for each in baselines
    ]


def baseline_cells(
    spec: StudySpec, baselines: Sequence[Baseline], members: Sequence[Trial]
) -> list[list[str]]:
    """Return the headings of a table of baselines, and a row of texts for each."""
    metrics = dict.fromkeys([*(o.key for o in spec.objectives), PARAMETERS])
    table = [["baseline", *metrics, "beaten by"]]
    for each in baselines:
        texts = [cell(metric, each, spec) for metric in metrics]
        table.append([each.name, *texts, _judgement(each, members, spec)])
    return table


def _judgement(baseline: Baseline, members: Sequence[Trial], spec: StudySpec) -> str:
    """Return which members of the front beat a baseline, in words."""
    if baseline.losses(spec.objectives) is None:
        return "unfinished"
    numbers = beaten_by(baseline, members, spec.objectives)
    shown = shortlist([str(number) for number in numbers], MAX_BEATING)
    over = ", over a limit" if baseline.violation(spec.objectives) > 0 else ""
    return f"{shown}{over}" if numbers else f"no member{over}"


def possible(standing_of: Mapping[int, Standing]) -> list[int]:
    """Return the trials that are dominated by their values, but not beyond the intervals."""
    return [number for number, standing in standing_of.items() if standing is Standing.POSSIBLE]


def as_csv(
    spec: StudySpec,
    shown: ShownFront,
    *,
    finals: Mapping[int, FinalResult] = NO_FINALS,
    conditions: Mapping[str, str] | None = None,
) -> str:
    """Return a heading and a line of CSV for each member.

    With the `conditions` of the figures, the lines also have the study and its params, and can be
    imported.
    """
    lines = rows(spec, shown, finals=finals)
    if conditions is not None:
        for line in lines:
            params = shown.trials[line["trial"]].params.items()
            line |= {"study": spec.name, **conditions}
            line |= {f"params.{name}": value for name, value in params}
    out = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line)) or ["trial"]
    writer = csv.DictWriter(out, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def as_markdown(
    spec: StudySpec,
    shown: ShownFront,
    *,
    finals: Mapping[int, FinalResult] = NO_FINALS,
    baselines: Sequence[Baseline] = (),
) -> str:
    """Return a Markdown table with units and prefixes, and another one of the baselines."""
    tables = [front_cells(spec, shown, finals=finals)]
    if baselines:
        tables.append(baseline_cells(spec, baselines, list(shown.trials.values())))
    return "\n\n".join(_markdown_table(*table) for table in tables)


def _markdown_table(headings: Sequence[str], *lines: Sequence[str]) -> str:
    rows = [headings, ["---"] * len(headings), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(spec: StudySpec, trial: Evaluated) -> list[str]:
    """Return a network's objectives as text, with the intervals of measured ones."""
    return [cell(objective.key, trial, spec) for objective in spec.objectives]


def cell(metric: str, trial: Evaluated, spec: StudySpec) -> str:
    """Return one figure of a network as text, with its interval if it was measured."""
    measurement, trained = trial.evaluation.best_figure(metric), spec.trained_metrics.get(metric)
    if measurement is None:
        value = trial.evaluation.value(metric)
        return format_trained(trained, value) if trained else format_quantity(value, "1")
    text = with_interval(measurement, share=spec.is_share(metric))
    if trained and len(measurement.samples) > 1:
        text += f", {len(measurement.samples)} seeds"
    if is_certified(measurement.metric):
        text += ", certified"
    return text


def rung_figures(spec: StudySpec, trial: Trial) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each trained figure at each rung of a trial."""
    for rung in trial.evaluation.rungs:
        lasted = "unknown time" if rung.train_s is None else format_duration(rung.train_s)
        for metric in spec.trained or ():
            if metric.name in rung.metrics:
                text = format_trained(metric, rung.metrics[metric.name])
                yield (
                    f"{metric.name} after {rung.epochs:g} epochs",
                    f"{text} ({lasted} of training)",
                )


def final_headings(spec: StudySpec) -> dict[str, TrainedMetric]:
    """Return the metrics of final trainings that are shown, by the headings of their columns."""
    return {f"test {each.name}, trained fully": each for each in spec.quality_metrics}


def _parameters(trial: Trial) -> str:
    parameters = trial.evaluation.value(PARAMETERS)
    return "-" if parameters is None else f"{parameters:,.0f}"


def _final_cell(finals: Mapping[int, FinalResult], metric: TrainedMetric, trial: Trial) -> str:
    result = finals.get(trial.number)
    return "-" if result is None else result.text(metric)


def _row(
    spec: StudySpec, trial: Trial, standing_of: Mapping[int, Standing], final: FinalResult | None
) -> dict[str, Any]:
    """Return one member's values."""
    row: dict[str, Any] = {"trial": trial.number, **_figures(spec, trial)}
    if final is not None:
        row |= _final_columns(spec, final)
    row["violation"] = trial.violation(spec.objectives)
    if trial.number in standing_of:
        row["standing"] = standing_of[trial.number].value
    return row | {"digest": trial.architecture.digest[:12]}


def _figures(spec: StudySpec, network: Evaluated) -> dict[str, float | None]:
    """Return the figures of a network by metric, with the ends of the intervals of measured ones.

    The objectives come first.
    """
    evaluation = network.evaluation
    row: dict[str, float | None] = {}
    for metric in dict.fromkeys((*(o.key for o in spec.objectives), *evaluation.measurements)):
        row[metric] = evaluation.value(metric)
        measurement = evaluation.measurements.get(metric)
        if measurement is not None and measurement.kind is not Kind.COUNTED:
            row |= {f"{metric}_low": measurement.ci_low, f"{metric}_high": measurement.ci_high}
    return row


def _final_columns(spec: StudySpec, final: FinalResult) -> dict[str, float | int | None]:
    """Return means and deviations of a final training; the first metric's have the short names."""
    columns: dict[str, float | int | None] = {}
    for metric in spec.quality_metrics:
        part = f"_{metric.name}" if columns else ""
        columns[f"final_{metric.name}"] = final.mean(metric.name)
        columns[f"final{part}_deviation"] = final.deviation(metric.name)
        columns["final_seeds"] = len(final.of_seeds(metric.name))
    return columns
