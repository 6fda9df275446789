"""Facts about a study as a whole: `nas status` prints them as text or as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nas.analysis.baselines import is_finished
from nas.analysis.rank_agreement import Agreement, agreements_of
from nas.analysis.study_curves import study_curves
from nas.core.stopping import Futility
from nas.core.study import Objective, RungSpec, StudySpec, TrainedMetric
from nas.core.trial import Baseline, TrialState, Usage
from nas.record import StudyRecord, Summary
from nas.report.at_work import AtWork, at_work

if TYPE_CHECKING:
    from nas.record import Store


@dataclass(frozen=True, kw_only=True)
class StudyBrief:
    """A study in a list. `hypervolumes` are those of its fronts, the oldest first."""

    record: StudyRecord
    hypervolumes: tuple[float, ...]
    work: AtWork

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the schema `studies`."""
        record = self.record
        return {
            "name": record.name,
            "dataset": record.dataset,
            "created_at": record.created_at,
            "trials": by_state(record.counts),
            "objectives": [objective.key for objective in record.spec.objectives],
            "hypervolume": self.hypervolumes[-1] if self.hypervolumes else None,
            "work": asdict(self.work),
            "archived": record.archived_at is not None,
        }


@dataclass(frozen=True, kw_only=True)
class StudyFacts:
    """Everything that `nas status STUDY` shows.

    `hypervolumes` are numbers of finished trials, each with the hypervolume after them.
    `agreements` compare each rung with the last one, by metric. `futility` is the state of the
    futility rule after each rung.
    """

    record: StudyRecord
    summary: Summary
    hypervolumes: tuple[tuple[int, float], ...]
    agreements: tuple[tuple[TrainedMetric, Agreement], ...]
    futility: tuple[tuple[RungSpec, str], ...]
    work: AtWork
    baselines: tuple[Baseline, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the schema `study`."""
        spec, summary = self.record.spec, self.summary
        return {
            "name": spec.name,
            "space": spec.space,
            "sampler": spec.sampler,
            "dataset": self.record.dataset,
            "created_at": self.record.created_at,
            "objectives": [objective_values(objective) for objective in spec.objectives],
            "trials": by_state(summary.counts),
            "repeated": summary.repeated,
            "skipped": summary.skipped,
            "copied": summary.copied,
            "searched_s": summary.searched_s,
            "spent": _usage(summary.spent),
            "engine_s": summary.engine_s,
            "engine_j": summary.engine_j,
            "replicates": summary.replicates,
            "spent_again": _usage(summary.spent_again),
            "finals": summary.finals,
            "spent_finally": _usage(summary.spent_finally),
            "budget": {
                name: getattr(spec.search_budget, name)
                for name in ("trials", "wall_time_s", "epochs", "device_s", "energy_j")
            },
            "fresh": spec.fresh,
            "baselines": {
                "named": spec.baselines,
                "finished": [each.name for each in self.baselines if is_finished(spec, each)],
            },
            "hypervolume": self.hypervolumes[-1][1] if self.hypervolumes else None,
            "hypervolumes": [
                {"after": after, "value": value} for after, value in self.hypervolumes
            ],
            "agreements": [
                {"metric": metric.name, **asdict(agreement)}
                for metric, agreement in self.agreements
            ],
            "futility": [
                {"rung": str(rung), "state": description} for rung, description in self.futility
            ],
            "work": asdict(self.work),
            "failed": [{"trial": number, "reason": reason} for number, reason in summary.failed],
        }


def objective_values(objective: Objective) -> dict[str, Any]:
    """Return an objective as plain values."""
    return {
        "metric": objective.key,
        "device": objective.device,
        "direction": objective.direction,
        "limit": objective.limit,
        "reference": objective.reference,
    }


def by_state(counts: Mapping[TrialState, int]) -> dict[str, int]:
    """Return numbers of trials by the names of all states."""
    return {state.value: counts.get(state, 0) for state in TrialState}


def study_briefs(store: "Store", *, archived: bool = False) -> Iterator[StudyBrief]:
    """Read the studies for a list, with `archived` also those that are hidden from lists."""
    for record in store.studies() if archived else store.listed_studies():
        running = store.summary(record.name).running if record.counts[TrialState.RUNNING] else ()
        yield StudyBrief(
            record=record,
            hypervolumes=tuple(volume for _, volume in store.hypervolumes(record.name)),
            work=at_work(store, record, running),
        )


def study_facts(store: "Store", record: StudyRecord) -> StudyFacts:
    """Read the facts about a study."""
    spec, summary = record.spec, store.summary(record.name)
    has_rungs = len(spec.rungs) > 1
    return StudyFacts(
        record=record,
        summary=summary,
        hypervolumes=tuple(store.hypervolumes(record.name)),
        agreements=tuple(_agreements(store, spec)) if has_rungs else (),
        futility=tuple(_futility(store, spec)) if has_rungs and spec.stopping.futility else (),
        work=at_work(store, record, summary.running),
        baselines=tuple(store.baselines(spec.name)),
    )


def _agreements(store: "Store", spec: StudySpec) -> Iterator[tuple[TrainedMetric, Agreement]]:
    """Return the agreement of each rung with the last one, for each trained objective."""
    for metric in spec.quality_metrics:
        values = store.rung_values(spec.name, metric.name)
        last = max((max(each) for each in values), default=0.0)
        for agreement in agreements_of(values, metric):
            if agreement.second == last:
                yield metric, agreement


def _futility(store: "Store", spec: StudySpec) -> Iterator[tuple[RungSpec, str]]:
    """Return the state of the futility rule after each rung but the last."""
    curves = study_curves(store, spec)
    for position, rung in enumerate(spec.rungs[:-1], start=1):
        yield rung, Futility(curves, position).description


def _usage(usage: Usage) -> dict[str, Any]:
    return {**asdict(usage), "device_s": usage.device_s}
