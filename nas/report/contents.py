"""All values that the report and the live page of a study show, as plain JSON values.

Trials are stored as columns, one list for each quantity and all in the same order, which keeps five
thousand trials small. Numbers are in SI units. A missing value is None.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.analysis.baselines import beaten_by
from nas.analysis.figure_quality import figure_quality
from nas.analysis.posterior import unbiased_hypervolume, with_posterior_means
from nas.analysis.rank_agreement import agreements
from nas.analysis.relations import choices_seen, neighbours, positions
from nas.core.complexity import COUNTED_METRICS, count
from nas.core.dominance import dominators, ranks
from nas.core.errors import InvalidValueError
from nas.core.pareto import ParetoFront, standings
from nas.core.pareto import front as front_of
from nas.core.published import PUBLISHED
from nas.core.study import Objective, StudySpec
from nas.core.trial import Baseline, Trial, TrialState, Usage
from nas.record import StudyRecord
from nas.record.records import covered_s
from nas.report.at_work import AtWork, at_work
from nas.report.export_command import export_command, exportable
from nas.report.history import busy_spans, finished, ledger, steps
from nas.report.study_facts import objective_values
from nas.sampling.importance import MIN_TRIALS, importances

if TYPE_CHECKING:
    from nas.record import Store

NUM_NEIGHBOURS = 5
"""Number of most similar trials that are listed for each trial."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study as read from the record.

    `database` is the address for commands, without a password. `with_weights` are the numbers of
    the trials whose weights are stored. `at_work` is the work that was in progress.
    """

    record: StudyRecord
    trials: Sequence[Trial]
    fronts: Sequence[ParetoFront]
    database: str = "nas.db"
    with_weights: frozenset[int] = frozenset()
    baselines: Sequence[Baseline] = ()
    at_work: AtWork | None = None

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The metrics that the study optimises."""
        return self.record.spec.objectives


def read(store: "Store", name: str, database: str) -> Study:
    """Read the study from the record. Raises `UnknownNameError`."""
    with_weights = exportable(store, name)
    record, trials = store.study(name), store.trials(name)
    running = [t.number for t in trials if t.state is TrialState.RUNNING and t.duplicate_of is None]
    return Study(
        record=record,
        trials=trials,
        fronts=store.fronts(name),
        database=database,
        with_weights=with_weights,
        baselines=store.baselines(name),
        at_work=at_work(store, record, running),
    )


def contents(study: Study) -> dict[str, Any]:
    """Return the values that the pages of a study show."""
    spec, record = study.record.spec, study.record
    ended = sorted(finished(study.trials), key=lambda trial: trial.number)
    params, means = [trial.params for trial in ended], with_posterior_means(ended, spec)
    choices = choices_seen(params)
    places = positions(params, choices)
    return {
        "study": record.name,
        "at_work": study.at_work and study.at_work.to_dict(),
        "objectives": [objective_values(objective) for objective in spec.objectives],
        "metrics": _metrics(study, means),
        "choices": [{"name": c.name, "values": c.values, "ordered": c.ordered} for c in choices],
        "trials": {
            **_columns(study, means),
            "params": places.tolist(),
            **_relations(study.objectives, means),
            "nearest": neighbours(places, choices, NUM_NEIGHBOURS).tolist(),
        },
        "history": _history(study),
        "baselines": _baselines(study, means),
        "published": _published(spec.measurement.image_size, record.classes),
        "importance": _importance(spec, ended),
        "importance_needs": MIN_TRIALS,
        "agreement": [
            {"metric": metric.name, **asdict(agreement)}
            for metric in spec.quality_metrics
            for agreement in agreements(ended, metric)
        ],
        "quality": figure_quality(ended),
        "ledger": ledger(ended),
        "summary": {**_summary(study, ended), "front": len(_members(study, means))},
        "provenance": _provenance(record),
    }


def _metrics(study: Study, ended: Sequence[Trial]) -> list[dict[str, Any]]:
    """Describe each metric: the objectives first, then all others that have figures."""
    figures = {m.metric: m for t in ended for m in t.evaluation.measurements.values()}
    spec = study.record.spec
    given = {name for t in ended for rung in t.evaluation.rungs for name in rung.metrics}
    trained = {name: each for name, each in spec.trained_metrics.items() if name in given}
    names = dict.fromkeys([*(o.key for o in study.objectives), *trained, *figures])
    units = {name: figure.unit for name, figure in figures.items()}
    units |= {name: each.unit for name, each in spec.trained_metrics.items()}
    kinds = {name: figure.kind.value for name, figure in figures.items()}
    kinds |= dict.fromkeys(spec.trained_metrics, "trained")
    directions = {name: each.direction for name, each in trained.items()}
    directions |= {o.key: o.direction for o in study.objectives}
    return [
        {
            "name": name,
            "unit": units.get(name, "1"),
            "kind": kinds.get(name, "measured"),
            "share": spec.is_share(name),
            "maximize": directions.get(name) == "maximize",
            "counted": name in COUNTED_METRICS,
        }
        for name in names
    ]


def _members(study: Study, ended: Sequence[Trial]) -> set[int]:
    """Return the members of the recorded front, or of the front of posterior means if there are
    replicates.
    """
    if any(t.evaluation.replicates for t in ended):
        return set(front_of(ended, study.objectives).members)
    return set(study.fronts[-1].members) if study.fronts else set()


def _columns(study: Study, ended: Sequence[Trial]) -> dict[str, Any]:
    """Return the trials' own quantities. `ended` have posterior means as errors."""
    names = [metric["name"] for metric in _metrics(study, ended)]
    front, searched = _members(study, ended), {t.number: t for t in study.trials}
    bounds: dict[str, tuple[list[float | None], list[float | None]]] = {}
    for name in names:
        figures = [t.evaluation.measurements.get(name) for t in ended]
        if any(m is not None and m.ci_low != m.ci_high for m in figures):
            bounds[name] = (
                [m.ci_low if m else None for m in figures],
                [m.ci_high if m else None for m in figures],
            )
    return {
        "number": [t.number for t in ended],
        "state": [t.state.value for t in ended],
        "front": [t.number in front for t in ended],
        "violation": [t.violation(study.objectives) for t in ended],
        "values": {name: [t.evaluation.value(name) for t in ended] for name in names},
        "low": {name: low for name, (low, _) in bounds.items()},
        "high": {name: high for name, (_, high) in bounds.items()},
        "status": {
            name: [_status(t, name) for t in ended]
            for name in names
            if name not in COUNTED_METRICS and name not in study.record.spec.trained_metrics
        },
        "rungs": [
            [[r.epochs, r.metrics, r.train_s] for r in searched[t.number].evaluation.rungs]
            for t in ended
        ],
        "seeds": [1 + len(t.evaluation.finished_replicates) for t in ended],
        "export": [
            export_command(study.record.name, t.number, study.database)
            if t.number in study.with_weights
            else None
            for t in ended
        ],
        "reason": {t.number: t.reason for t in ended if t.reason},
        "digest": [t.architecture.digest[:12] for t in ended],
    }


def _status(trial: Trial, metric: str) -> str | None:
    figure = trial.evaluation.measurements.get(metric)
    return figure.status.value if figure else None


def _relations(objectives: Sequence[Objective], ended: Sequence[Trial]) -> dict[str, Any]:
    """Return the rank and certainty of complete, feasible trials, and how many trials each
    dominates and is dominated by. Other trials have None.
    """
    comparable = [
        index
        for index, t in enumerate(ended)
        if t.state is TrialState.COMPLETE
        and t.losses(objectives) is not None
        and t.violation(objectives) == 0
    ]
    losses = np.asarray([ended[index].losses(objectives) for index in comparable], dtype=float)
    columns: dict[str, list[Any]] = {
        name: [None] * len(ended) for name in ("rank", "certainty", "dominated_by", "dominates")
    }
    if not comparable:
        return columns
    standing_of = standings([ended[index] for index in comparable], objectives)
    dominated_by, dominates = dominators(losses), dominators(-losses)
    for row, (index, rank) in enumerate(zip(comparable, ranks(losses).tolist(), strict=True)):
        columns["rank"][index] = rank
        columns["certainty"][index] = standing_of[ended[index].number].value
        columns["dominated_by"][index] = int(dominated_by[row])
        columns["dominates"][index] = int(dominates[row])
    return columns


def _history(study: Study) -> dict[str, list[Any]]:
    """Return the recorded fronts with the device seconds and the searched time until each."""
    taken = steps(study.trials, study.fronts)
    return {
        "after": [step.front.after for step in taken],
        "device_s": [step.device_s for step in taken],
        "searched_s": [step.searched_s for step in taken],
        "hypervolume": [step.front.hypervolume for step in taken],
        "members": [step.front.members for step in taken],
        "feasible": [step.front.feasible for step in taken],
    }


def _baselines(study: Study, ended: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the figures of each baseline, the ends of their intervals, and the members of the
    front that beat it.
    """
    front = _members(study, ended)
    members = [trial for trial in ended if trial.number in front]
    names = [metric["name"] for metric in _metrics(study, ended)]
    rows = []
    for each in study.baselines:
        figures = each.evaluation.measurements
        rows.append(
            {
                "name": each.name,
                "values": {name: each.evaluation.value(name) for name in names},
                "low": {name: m.ci_low for name, m in figures.items()},
                "high": {name: m.ci_high for name, m in figures.items()},
                "beaten_by": beaten_by(each, members, study.objectives),
            }
        )
    return rows


def _published(image_size: int, classes: int) -> list[dict[str, Any]]:
    """Count what the published VoVNets cost at the study's image size.

    Networks that are too deep for such small images are left out. None is trained or measured.
    """
    rows: list[dict[str, Any]] = []
    for name, network in PUBLISHED.items():
        if name.endswith(("_paper", "_timm", "_cifar")):
            continue
        with suppress(InvalidValueError):
            counts = count(network, image_size, classes)
            rows.append({"name": name, **{cost: getattr(counts, cost) for cost in COUNTED_METRICS}})
    return rows


def _importance(spec: StudySpec, ended: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return each choice's share of the importance for each objective.

    Only trials with a final value of the objective count; a stopped trial has no final value of a
    trained one.
    """
    rows = []
    for objective in spec.objectives:
        measured = objective in spec.measured_objectives
        final = [t for t in ended if measured or t.state is TrialState.COMPLETE]
        values = [(t, t.evaluation.value(objective.key)) for t in final]
        judged = [(t, value) for t, value in values if value is not None]
        params = [t.params for t, _ in judged]
        shares = importances(
            choices_seen(params),
            params,
            [objective.loss(value) for _, value in judged],
        )
        rows.append({"metric": objective.key, "trials": len(judged), "shares": shares})
    return rows


def _summary(study: Study, ended: Sequence[Trial]) -> dict[str, Any]:
    """Return the numbers above the plots.

    `states` and `skipped` count the study's own architectures, and `copied` those that came with
    their evaluations from elsewhere and count in no budget.
    """
    newest = study.fronts[-1] if study.fronts else None
    originals = [t for t in study.trials if t.duplicate_of is None]
    own = [t for t in originals if not t.origin]
    spent = sum((t.evaluation.spent for t in ended if not t.origin), Usage())
    unbiased = unbiased_hypervolume(ended, study.record.spec)
    return {
        "states": {state.value: sum(t.state is state for t in own) for state in TrialState},
        "skipped": sum(t.skipped for t in own),
        "copied": len(originals) - len(own),
        "repeated": len(study.trials) - len(originals),
        "budget": study.record.spec.search_budget.trials,
        "feasible": newest.feasible if newest else False,
        "hypervolume": newest.hypervolume if newest else None,
        "reference_box": study.record.spec.reference_box,
        "unbiased": unbiased and asdict(unbiased),
        "searched_s": covered_s(busy_spans(study.trials)),
        "device_s": spent.device_s,
        "image_size": study.record.spec.measurement.image_size,
        "classes": study.record.classes,
    }


def _provenance(record: StudyRecord) -> list[tuple[str, str]]:
    """Return the study's settings and the machine's as dotted names with their values."""
    facts: dict[str, Any] = {
        "begun": f"{record.created_at:%Y-%m-%d %H:%M:%S} UTC",
        "osa-nas": record.version,
        "data set": record.dataset,
        "classes": record.classes,
        **_flat("study", record.spec.to_dict()),
        **_flat("found", dict(record.numerics)),
    }
    return [
        (name, value if isinstance(value, str) else json.dumps(value))
        for name, value in facts.items()
    ]


def _flat(prefix: str, value: Any) -> dict[str, Any]:
    """Flatten nested mappings to dotted names."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in _flat(f"{prefix}.{key}", inner).items()
    }
