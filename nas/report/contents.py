"""Everything a page shows of a study, as plain JSON values: the one source of the report and of the
live page.

Trials are columns (one list for each quantity, all in the same order), because five thousand of
them are small so. Numbers are SI; what is not known is None.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nas.analysis.figure_quality import figure_quality
from nas.analysis.posterior import unbiased_hypervolume, with_posterior_means
from nas.analysis.rank_agreement import agreements
from nas.analysis.relations import choices_seen, neighbours, positions
from nas.core.complexity import count
from nas.core.dominance import dominators, ranks
from nas.core.errors import InvalidValueError
from nas.core.pareto import ParetoFront, standings
from nas.core.pareto import front as front_of
from nas.core.published import PUBLISHED
from nas.core.study import Objective
from nas.core.trial import Trial, TrialState, Usage
from nas.record import Store, StudyRecord
from nas.report.at_work import AtWork, at_work
from nas.report.export_command import export_command, exportable
from nas.report.history import SearchClock, finished, ledger, steps
from nas.sampling.importance import MIN_TRIALS, importances

COUNTED = ("parameters", "macs", "memory_access_cost")
NEIGHBOURS = 5


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study as it is read from the record.

    `database` is how commands name it, without a password; `kept` are the trials whose weights were
    kept; `at_work` is what was being done when it was read.
    """

    record: StudyRecord
    trials: Sequence[Trial]
    fronts: Sequence[ParetoFront]
    database: str = "nas.db"
    kept: frozenset[int] = frozenset()
    at_work: AtWork | None = None

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What it optimises."""
        return self.record.spec.objectives


def read(store: Store, name: str, database: str) -> Study:
    """The study of this name as the record holds it now. Raises `UnknownNameError`."""
    kept = exportable(store, name)
    record, trials = store.study(name), store.trials(name)
    running = [t.number for t in trials if t.state is TrialState.RUNNING and t.duplicate_of is None]
    return Study(
        record=record,
        trials=trials,
        fronts=store.fronts(name),
        database=database,
        kept=kept,
        at_work=at_work(store, record, running),
    )


def contents(study: Study) -> dict[str, Any]:
    """All that the pages need."""
    spec, record = study.record.spec, study.record
    ended = sorted(finished(study.trials), key=lambda trial: trial.number)
    choices, means = choices_seen(ended), with_posterior_means(ended)
    return {
        "study": record.name,
        "command": export_command(record.name, "NUMBER", study.database),
        "at_work": study.at_work and study.at_work.to_dict(),
        "objectives": [
            {
                "metric": o.metric,
                "direction": o.direction,
                "limit": o.limit,
                "reference": o.reference,
            }
            for o in spec.objectives
        ],
        "metrics": _metrics(study, means),
        "choices": [{"name": c.name, "values": c.values, "ordered": c.ordered} for c in choices],
        "trials": {
            **_columns(study, means),
            "params": positions(ended, choices).tolist(),
            **_relations(study.objectives, means),
            "nearest": neighbours(positions(ended, choices), choices, NEIGHBOURS).tolist(),
        },
        "history": _history(study),
        "published": _published(spec.measurement.image_size, record.classes),
        "importance": _importance(study.objectives, ended),
        "importance_needs": MIN_TRIALS,
        "agreement": [asdict(found) for found in agreements(ended)],
        "quality": figure_quality(ended),
        "ledger": ledger(ended),
        "summary": {**_summary(study, ended), "front": len(_members(study, means))},
        "provenance": _provenance(record),
    }


def _metrics(study: Study, ended: Sequence[Trial]) -> list[dict[str, Any]]:
    """Objectives first, then whatever else was measured or counted."""
    figures = {m.metric: m for t in ended for m in t.evaluation.measurements.values()}
    trained = ["error"] if any(t.evaluation.rungs for t in ended) else []
    names = dict.fromkeys([*(o.metric for o in study.objectives), *trained, *figures])
    maximized = {o.metric for o in study.objectives if o.direction == "maximize"}
    return [
        {
            "name": name,
            "unit": figures[name].unit if name in figures else "1",
            "kind": figures[name].kind.value if name in figures else "trained",
            "share": name == "error",
            "maximize": name in maximized,
            "counted": name in COUNTED,
        }
        for name in names
    ]


def _members(study: Study, ended: Sequence[Trial]) -> set[int]:
    """Who is on the front: as it was searched, or by the means of the seeds where networks were
    replicated.
    """
    if any(t.evaluation.replicates for t in ended):
        return set(front_of(ended, study.objectives).members)
    return set(study.fronts[-1].members) if study.fronts else set()


def _columns(study: Study, ended: Sequence[Trial]) -> dict[str, Any]:
    names = [metric["name"] for metric in _metrics(study, ended)]
    front, searched = _members(study, ended), {t.number: t for t in study.trials}
    bounds: dict[str, tuple[list[float | None], list[float | None]]] = {}
    for name in names:
        found = [t.evaluation.measurements.get(name) for t in ended]
        if any(m is not None and m.ci_low != m.ci_high for m in found):
            bounds[name] = (
                [m.ci_low if m else None for m in found],
                [m.ci_high if m else None for m in found],
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
            name: [
                (m.status.value if (m := t.evaluation.measurements.get(name)) else None)
                for t in ended
            ]
            for name in names
            if name not in COUNTED and name != "error"
        },
        "rungs": [
            [[r.epochs, r.error, r.train_s] for r in searched[t.number].evaluation.rungs]
            for t in ended
        ],
        "seeds": [1 + len(t.evaluation.replicate_errors()) for t in ended],
        "kept": [t.number in study.kept for t in ended],
        "reason": {t.number: t.reason for t in ended if t.reason},
        "digest": [t.architecture.digest[:12] for t in ended],
    }


def _relations(objectives: Sequence[Objective], ended: Sequence[Trial]) -> dict[str, Any]:
    """Rank, certainty, and by how many each is dominated, of the complete and feasible trials; None
    of others.
    """
    able = [
        index
        for index, t in enumerate(ended)
        if t.state is TrialState.COMPLETE
        and t.losses(objectives) is not None
        and t.violation(objectives) == 0
    ]
    losses = np.asarray([ended[index].losses(objectives) for index in able], dtype=float)
    columns: dict[str, list[Any]] = {
        name: [None] * len(ended) for name in ("rank", "certainty", "dominated_by", "dominates")
    }
    if not able:
        return columns
    known = standings([ended[index] for index in able], objectives)
    beaten, beats = dominators(losses), dominators(-losses)
    for place, (index, rank) in enumerate(zip(able, ranks(losses).tolist(), strict=True)):
        columns["rank"][index] = rank
        columns["certainty"][index] = known[ended[index].number].value
        columns["dominated_by"][index] = int(beaten[place])
        columns["dominates"][index] = int(beats[place])
    return columns


def _history(study: Study) -> dict[str, list[Any]]:
    taken = steps(study.trials, study.fronts)
    return {
        "after": [step.front.after for step in taken],
        "device_s": [step.device_s for step in taken],
        "searched_s": [step.searched_s for step in taken],
        "hypervolume": [step.front.hypervolume for step in taken],
        "members": [step.front.members for step in taken],
        "feasible": [step.front.feasible for step in taken],
    }


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
            rows.append({"name": name, **{cost: getattr(counts, cost) for cost in COUNTED}})
    return rows


def _importance(objectives: Sequence[Objective], ended: Sequence[Trial]) -> list[dict[str, Any]]:
    """Of each objective every choice's share, over the trials that have a final value of it."""
    found = []
    for objective in objectives:
        judged = [t for t in ended if t.state is TrialState.COMPLETE or objective.metric != "error"]
        known = [
            (t, value)
            for t in judged
            if (value := t.evaluation.value(objective.metric)) is not None
        ]
        found.append(
            {
                "metric": objective.metric,
                "trials": len(known),
                "shares": importances(
                    choices_seen([t for t, _ in known]),
                    [t.params for t, _ in known],
                    [objective.loss(value) for _, value in known],
                ),
            }
        )
    return found


def _summary(study: Study, ended: Sequence[Trial]) -> dict[str, Any]:
    newest = study.fronts[-1] if study.fronts else None
    spent = sum((t.evaluation.spent for t in ended), Usage())
    return {
        "states": {
            state.value: sum(t.state is state and t.duplicate_of is None for t in study.trials)
            for state in TrialState
        },
        "skipped": sum(t.skipped for t in ended),
        "repeated": sum(t.duplicate_of is not None for t in study.trials),
        "budget": study.record.spec.search_budget.trials,
        "feasible": newest.feasible if newest else False,
        "hypervolume": newest.hypervolume if newest else None,
        "unbiased": (found := unbiased_hypervolume(ended, study.objectives)) and asdict(found),
        "searched_s": SearchClock(study.trials).total_s,
        "device_s": spent.device_s,
        "image_size": study.record.spec.measurement.image_size,
        "classes": study.record.classes,
    }


def _provenance(record: StudyRecord) -> list[tuple[str, str]]:
    """What the study was made from, as dotted names and their values."""
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
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in _flat(f"{prefix}.{key}", inner).items()
    }
