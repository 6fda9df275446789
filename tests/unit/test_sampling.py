"""Proposals depend on the record alone: a sampler rebuilt from it makes the same proposals as an
uninterrupted one.
"""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nas.core import plugins
from nas.core.complexity import count
from nas.core.measurement import Measurement
from nas.core.study import Budget, Direction, Objective, StudySpec, rungs_at
from nas.core.tasks import Measured, Trained
from nas.core.trial import Rung, TrialState
from nas.sampling import Proposer
from nas.searching.state import Finished, SearchState, Wait
from search_spaces.osa_tiny import SPACE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LENGTHS = {
    "random": 60,
    "tpe": 60,
    "nsga2": 130,
    "nsga3": 130,
    "gp": 16,
    "mutate_front": 60,
    "known-cost": 60,
}
"""Number of trials by sampler: more than their random first trials, and three generations of the
genetic ones.
"""
NEVER_REPEAT = {"mutate_front", "known-cost"}
OBJECTIVES = (
    Objective(metric="error", limit=0.4),
    Objective(metric="macs", limit=2_500_000),
    Objective(metric="parameters", direction=Direction.MAXIMIZE, reference=0),
)


def new_proposer(spec):
    return Proposer(
        space=SPACE,
        objectives=spec.objectives,
        seed=spec.seed,
        make_sampler=plugins.load("nas.samplers", spec.sampler),
    )


def recorded(trials):
    """Return the trials as a database does: with the sampler's state converted to JSON and back."""
    return [replace(t, sampler_state=json.loads(json.dumps(dict(t.sampler_state)))) for t in trials]


class Study:
    """A study by three workers of unequal speed whose trials end in every possible state.

    `proposals` has the params of every trial, each with the record before it was proposed.
    """

    def __init__(self, sampler, length):
        self.spec = StudySpec(
            name="s",
            space="osa_tiny",
            sampler=sampler,
            seed=12,
            objectives=OBJECTIVES,
            rungs=rungs_at(1, 2),
            budget=Budget(trials=10_000),
        )
        self.proposer = new_proposer(self.spec)
        self.trials = {}
        self.state = SearchState(
            spec=self.spec, space=SPACE, sampler=self.proposer, trials=[], recall=self.trials.get
        )
        self.proposals = []
        chance = random.Random(5)
        while len(self.proposals) < length:
            if len(self.state.running) < chance.choice((1, 3)):
                self._propose()
            else:
                self._work(chance.choice(self.state.running))

    def _propose(self):
        before = recorded(self.trials.values())
        trial = self.state.propose(NOW)
        assert not isinstance(trial, Wait | Finished)
        self.proposals.append((before, trial.params))
        self.trials[trial.number] = trial
        self.state.learn(trial)

    def _work(self, trial):
        network, number = trial.architecture, trial.number
        if number % 7 == 3:
            self._learn(self.state.fail(number, "out of memory", NOW))
        elif not trial.evaluation.measurements:
            counts = count(network, 32, 10)
            self._learn(
                self.state.judge(
                    number,
                    Measured(
                        measurements=(
                            Measurement.counted("macs", "1", counts.macs),
                            Measurement.counted("parameters", "1", counts.parameters),
                        ),
                        seconds=0.0,
                    ),
                    NOW,
                )
            )
        else:
            epochs = len(trial.evaluation.rungs) + 1
            error = int(network.digest[:4], 16) / 2**16
            self._learn(
                self.state.judge(
                    number,
                    Trained(
                        rung=Rung(
                            epochs=epochs,
                            metrics={"error": error / epochs},
                            train_loss=1.0,
                            images=1,
                            train_s=0,
                            validation_s=0,
                        )
                    ),
                    NOW,
                )
            )

    def _learn(self, trial):
        ended = trial.state is not TrialState.RUNNING
        for each in (trial, *(self.state.followers(trial) if ended else ())):
            self.trials[each.number] = each
            self.state.learn(each)


@pytest.fixture(scope="module", params=LENGTHS)
def study(request):
    """Return the study searched by each sampler."""
    return Study(request.param, LENGTHS[request.param])


def test_the_study_has_trials_of_every_kind(study):
    """Otherwise the other tests would cover less than they seem to.

    The proposals of tpe depend on the last bits of the CPU's arithmetic, and two in three repeat a
    network. Therefore only the kinds that are frequent are required of it.
    """
    trials = list(study.trials.values())
    assert {t.state for t in trials if t.duplicate_of is None} >= {
        TrialState.COMPLETE,
        TrialState.FAILED,
        TrialState.STOPPED,
    }
    if study.spec.sampler == "gp":
        return
    reasons = " ".join(t.reason for t in trials)
    assert "over the limit" in reasons
    assert any(t.state is TrialState.COMPLETE and t.violation(OBJECTIVES) > 0 for t in trials)
    if study.spec.sampler in NEVER_REPEAT:
        return
    assert any(t.duplicate_of is not None for t in trials)
    assert study.spec.sampler in {"random", "tpe"} or any(
        t.state is TrialState.RUNNING and t.duplicate_of is not None
        for record, _ in study.proposals
        for t in record
    )


def test_a_sampler_rebuilt_at_any_point_proposes_the_same(study):
    """Trials may be running, repeated, stopped, failed or infeasible at that point."""
    step = 8 if study.spec.sampler == "gp" else 1
    for number, (record, params) in list(enumerate(study.proposals))[::step]:
        proposer = new_proposer(study.spec)
        proposer.rebuild(record[:5])
        proposer.rebuild(record[5:])
        assert proposer.ask()[:2] == (number, params)


def test_optunas_front_is_ours(study):
    """Values and constraints reach Optuna: its feasible best trials are those of our front.

    The random sampler ignores trials, therefore Optuna receives none.
    """
    if study.spec.sampler == "random":
        assert study.proposer._study.best_trials == []
        return
    feasible = study.state.front.members if study.state.front.feasible else ()
    best = [t.number for t in study.proposer._study.best_trials]
    assert {n for n in best if study.trials[n].duplicate_of is None} == set(feasible)


def test_constraints_are_the_excess_over_a_limit(study):
    """They have the objective's unit, also for trials that ended before they had all values."""
    for trial in study.proposer._study.get_trials() if study.spec.sampler != "random" else ():
        ours = study.trials[trial.number]
        if ours.state is not TrialState.RUNNING and ours.evaluation.measurements:
            assert trial.constraints["macs"] == ours.evaluation.value("macs") - 2_500_000
            assert ("error" in trial.constraints) == bool(ours.evaluation.rungs)


def test_seeds_change_the_first_proposal():
    """Eight seeds make at least five different first proposals."""
    specs = [
        StudySpec(name="s", space="osa_tiny", sampler="random", seed=seed, objectives=OBJECTIVES)
        for seed in range(8)
    ]
    assert len({json.dumps(new_proposer(spec).ask()[1]) for spec in specs}) > 4
