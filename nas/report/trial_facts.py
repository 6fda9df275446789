"""Facts about one network or trial: `nas show` and `nas compare` print them as text or as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nas.analysis.finals import FinalResult, on_images_of_the_study, results
from nas.analysis.relations import choices_seen, neighbours, positions
from nas.analysis.study_front import outcomes_of
from nas.core.architecture import Architecture
from nas.core.complexity import COUNTED_METRICS, count
from nas.core.dominance import dominators
from nas.core.study import StudySpec
from nas.core.trial import Trial, TrialState
from nas.record import StudyRecord
from nas.report.export_command import export_command, exportable

if TYPE_CHECKING:
    from nas.record import Store

NEIGHBOURS = 3
"""The number of similar networks that are named."""


@dataclass(frozen=True, kw_only=True)
class Rank:
    """How many of the `compared` feasible trials a trial dominates, and how many dominate it."""

    dominates: int
    dominated_by: int
    compared: int


NO_RANK = dict.fromkeys(field.name for field in fields(Rank))
"""The same values of a trial without a rank."""


@dataclass(frozen=True, kw_only=True)
class TrialFacts:
    """Everything that `nas show` shows of a trial.

    `finals` are its final trainings by each recipe. `rank` is None unless the trial is complete and
    feasible. `similar` are the numbers of the most similar trials. `export` is the command that
    exports it, None without weights.
    """

    record: StudyRecord
    trial: Trial
    finals: tuple[FinalResult, ...]
    rank: Rank | None
    similar: tuple[int, ...]
    export: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the values of the schema `show` that are about the trial."""
        return {
            "trial": trial_values(self.record.spec, self.trial),
            "final": [
                {
                    "epochs": result.first.recipe.epochs,
                    "seeds": len(result.trainings),
                    "metrics": {
                        metric.name: result.of_seeds(metric.name)
                        for metric in self.record.spec.trained or ()
                    },
                }
                for result in self.finals
            ],
            **(asdict(self.rank) if self.rank else NO_RANK),
            "similar": self.similar,
            "export": self.export,
        }


NO_TRIAL: Mapping[str, Any] = {
    "trial": None,
    "final": [],
    **NO_RANK,
    "similar": [],
    "export": None,
}
"""The same values of a network that is no trial."""


def trial_facts(store: "Store", record: StudyRecord, trial: Trial, database: str) -> TrialFacts:
    """Read the facts about a trial. `database` is the address in the command that exports it."""
    exported = exportable(store, record.name)
    is_exportable = trial.number in exported or trial.duplicate_of in exported
    return TrialFacts(
        record=record,
        trial=trial,
        finals=tuple(
            result
            for result in results(on_images_of_the_study(store.finals(record.name)))
            if result.first.network == trial.architecture.digest
        ),
        rank=_rank(store, record, trial),
        similar=_similar(store, record, trial),
        export=export_command(record.name, trial.number, database) if is_exportable else None,
    )


def trial_values(spec: StudySpec, trial: Trial) -> dict[str, Any]:
    """Return a trial with all its figures as plain values."""
    evaluation = trial.evaluation
    return {
        "study": spec.name,
        "trial": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "duplicate_of": trial.duplicate_of,
        "origin": trial.origin or None,
        "digest": trial.architecture.digest,
        "architecture": trial.architecture.to_dict(),
        "params": trial.params,
        "figures": [asdict(figure) for figure in evaluation.measurements.values()],
        "rungs": [asdict(rung) for rung in evaluation.rungs],
        "seeds": {
            metric.name: evaluation.values_of_seeds(metric.name) for metric in spec.trained or ()
        },
    }


def network_values(network: Architecture, image_size: int, classes: int) -> dict[str, Any]:
    """Return a network with its counts for one image as plain values."""
    totals = count(network, (image_size, image_size), classes)
    return {
        "image_size": image_size,
        "classes": classes,
        "digest": network.digest,
        "architecture": network.to_dict(),
        **{
            name: getattr(totals, name)
            for name in (*COUNTED_METRICS, "activations", "convolutions")
        },
    }


def different_choices(trials: Sequence[Trial]) -> list[str]:
    """Return the names of the choices in which these trials differ."""
    names = dict.fromkeys(name for trial in trials for name in trial.params)
    return [name for name in names if len({str(trial.params.get(name)) for trial in trials}) > 1]


def _rank(store: "Store", record: StudyRecord, trial: Trial) -> Rank | None:
    """Compare a trial with all feasible ones of its study."""
    objectives = record.spec.objectives
    own = trial.losses(objectives)
    if own is None or trial.state is not TrialState.COMPLETE or trial.violation(objectives) > 0:
        return None
    outcomes = outcomes_of(store, record.name, objectives)
    losses = outcomes.losses[outcomes.comparable(objectives)]
    if trial.duplicate_of is not None:
        losses = np.vstack([losses, own])
    dominated, dominating = dominators([-np.array(own)], -losses), dominators([own], losses)
    return Rank(dominates=int(dominated[0]), dominated_by=int(dominating[0]), compared=len(losses))


def _similar(store: "Store", record: StudyRecord, trial: Trial) -> tuple[int, ...]:
    """Return the numbers of the most similar trials, the nearest first."""
    params_of = {**store.params(record.name), trial.number: trial.params}
    numbers = sorted(params_of)
    params = [params_of[number] for number in numbers]
    choices, index = choices_seen(params), numbers.index(trial.number)
    (nearest,) = neighbours(positions(params, choices), choices, NEIGHBOURS, [index])
    return tuple(numbers[neighbour] for neighbour in nearest)
