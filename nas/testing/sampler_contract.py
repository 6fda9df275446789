"""Tests that every sampler of the group `nas.samplers` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest

from nas.core.architecture import Architecture, Attention, Stem
from nas.core.complexity import totals
from nas.core.measurement import Kind, Measurement
from nas.core.search_space import OsaSpace
from nas.core.study import Direction, Objective
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.sampling import Proposer

SPACE = OsaSpace(
    stem=(Stem.CIFAR,),
    stem_mid=(4, 8),
    stem_out=(8, 16),
    mid_channels=((8, 12, 16),) * 3,
    out_channels=((16, 24, 32), (24, 32, 48), (32, 48, 64)),
    num_layers=(2, 3, 4),
    residual=(False, True),
    attention=(Attention.NONE, Attention.LAST),
)
"""A space with ordered choices and categories."""
ERROR = Objective(metric="error", reference=0.9, limit=0.8)
LATENCY = Objective(metric="latency", limit=250e-6)
RATE = Objective(metric="frames_per_s", direction=Direction.MAXIMIZE, reference=1000.0)
MACS = Objective(metric="macs")
OBJECTIVES = {
    "one": (ERROR,),
    "two": (ERROR, LATENCY),
    "three": (LATENCY, ERROR, RATE),
    "untrained": (MACS, LATENCY),
}
"""Objectives of the studies that a sampler must work with, by their number. The last study trains
nothing.
"""
MIN_DISTINCT_SHARE = 1 / 3
"""Smallest share of different params among the proposals of a study."""

each_study = pytest.mark.parametrize("study", OBJECTIVES)


class SamplerContract(ABC):
    """Tests of one sampler.

    A search makes a new sampler, with a new seed, for every proposal. A sampler therefore keeps
    nothing between proposals except what it stores in the Optuna study.

    `trials` is the number of trials in a study, at least 12. The default is more than a generation
    of 20, and more than the random trials with which samplers begin.
    """

    trials = 24

    @abstractmethod
    def make(self, seed: int) -> Any:
        """Return a sampler of Optuna's with this seed, or an `InformedSampler`."""

    def proposer(self, study: str, trials: Sequence[Trial] = ()) -> Proposer:
        """Return the proposer of a search that resumes after these trials."""
        proposer = Proposer(
            space=SPACE,
            objectives=OBJECTIVES[study],
            make_sampler=self.make,
            seed=7,
            counts=partial(totals, image_size=32, num_classes=10),
        )
        proposer.rebuild(trials)
        return proposer

    def record(self, study: str) -> list[Trial]:
        """Return the trials of a search, which is run once for each class of tests."""
        return _recorded(type(self), study)

    @each_study
    def test_it_proposes_values_of_the_choices(self, study: str) -> None:
        """Every proposal has one value of each choice, also after trials that failed, were stopped,
        or are over a limit.
        """
        trials = self.record(study)
        assert {trial.state for trial in trials} == set(TrialState) - {TrialState.RUNNING}
        for trial in trials:
            assert list(trial.params) == [choice.name for choice in SPACE.choices]
            assert all(trial.params[choice.name] in choice.values for choice in SPACE.choices)

    def test_some_trials_are_infeasible(self) -> None:
        """The tests with a limit on the latency include complete trials that are over it."""
        for study in ("two", "three", "untrained"):
            complete = [t for t in self.record(study) if t.state is TrialState.COMPLETE]
            assert any(trial.violation(OBJECTIVES[study]) > 0 for trial in complete)

    @each_study
    def test_it_does_not_repeat_itself(self, study: str) -> None:
        """A third or more of the proposals differ. A sampler that ignores its seed repeats one."""
        proposals = {tuple(trial.params.values()) for trial in self.record(study)}
        assert len(proposals) >= MIN_DISTINCT_SHARE * self.trials

    @each_study
    @pytest.mark.parametrize("share", [0, 0.5, 1])
    def test_a_resumed_search_proposes_the_same(self, study: str, share: float) -> None:
        """With the same seed and the same record, the next proposal is that of the search that was
        not interrupted.
        """
        trials = self.record(study)
        finished = int(share * (self.trials - 1))
        number, params, state = self.proposer(study, trials[:finished]).ask()
        assert (number, params) == (finished, trials[finished].params)
        assert state == trials[finished].sampler_state

    @each_study
    def test_it_proposes_while_other_trials_run(self, study: str) -> None:
        """Two trials run at once, and the second ends first. A search that resumes while the first
        runs proposes the same as one that was not interrupted.
        """
        trials = self.record(study)[: self.trials - 3]
        proposer = self.proposer(study, trials)
        first, second = _running(proposer), _running(proposer)
        assert _running(self.proposer(study, [*trials, first])).params == second.params
        for trial in (second, first):
            proposer.tell(_ended(trial))
        assert _running(proposer).number == self.trials - 1

    @each_study
    def test_it_says_whether_to_skip_a_measured_network(self, study: str) -> None:
        """The answer is true or false, and the same each time."""
        *trials, last = self.record(study)
        measured = Trial(
            number=last.number,
            params=last.params,
            architecture=last.architecture,
            seed=last.seed,
            evaluation=Evaluation(measurements=_figures(last.architecture)),
            sampler_state=last.sampler_state,
        )
        answers = [self.proposer(study, [*trials, measured]).skips(measured) for _ in range(2)]
        assert answers in ([True, True], [False, False])


@cache
def _recorded(kind: type[SamplerContract], study: str) -> list[Trial]:
    """Search with the sampler of a class of tests, one trial after the other."""
    contract, trials = kind(), []
    proposer = contract.proposer(study)
    for _ in range(contract.trials):
        trial = _ended(_running(proposer))
        proposer.tell(trial)
        trials.append(trial)
    return trials


def _running(proposer: Proposer) -> Trial:
    """Return the next trial, which has no results yet."""
    number, params, state = proposer.ask()
    return Trial(
        number=number,
        params=params,
        architecture=SPACE.decode(params),
        seed=number,
        sampler_state=state,
    )


def _ended(trial: Trial) -> Trial:
    """Return how the trial ends: mostly complete, else failed, skipped, or stopped at a rung."""
    measured = Evaluation(measurements=_figures(trial.architecture))
    once = measured.with_rung(_rung(trial.architecture, 1.0))
    match trial.number % 8:
        case 3:
            return trial.moved_to(TrialState.FAILED, reason="the loss is not finite")
        case 5:
            return trial.moved_to(TrialState.STOPPED, evaluation=measured, reason="over a limit")
        case 7:
            return trial.moved_to(TrialState.STOPPED, evaluation=once, reason="stopped at a rung")
    trained = once.with_rung(_rung(trial.architecture, 2.0))
    return trial.moved_to(TrialState.COMPLETE, evaluation=trained)


def _figures(architecture: Architecture) -> dict[str, Measurement]:
    """Return the costs of a network, by arithmetic."""
    counts = totals(architecture, image_size=32, num_classes=10)
    latency = counts["memory_access_cost"] * 1e-9
    values = {**counts, "latency": latency, "frames_per_s": 1 / latency}
    return {
        metric: replace(
            Measurement.counted(metric, "1", value), kind=Kind.MODELLED, method="arithmetic"
        )
        for metric, value in values.items()
    }


def _rung(architecture: Architecture, epochs: float) -> Rung:
    """Return an error that falls with the parameters and the epochs."""
    parameters = totals(architecture, image_size=32, num_classes=10)["parameters"]
    error = 0.9 / (1 + epochs * (parameters / 1e5) ** 0.5)
    return Rung(epochs=epochs, metrics={"error": error}, train_loss=error, images=1, train_s=0.0)
