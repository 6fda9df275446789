"""A front measured again, against three members whose figures were chosen by hand."""

import pytest

from nas.analysis.remeasured import remeasured
from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import Measurement, Status
from nas.core.pareto import Standing
from nas.core.study import Objective
from nas.core.trial import Evaluation, Rung, Trial, TrialState

OBJECTIVES = (Objective(metric="error"), Objective(metric="latency", limit=0.010))
STAGE = OsaStage(mid_channels=4, out_channels=8, num_layers=1)
ARCHITECTURE = Architecture(stem_channels=(4, 4, 8), stages=(STAGE,) * 3)


def latency(value, half=0.0):
    """A latency with its interval."""
    return Measurement(
        metric="latency",
        unit="s",
        value=value,
        ci_low=value - half,
        ci_high=value + half,
        method="clock",
    )


def member(number, error, seconds):
    rung = Rung(epochs=1, error=error, train_loss=1.0, images=1, train_s=0.0, validation_s=0.0)
    return Trial(
        number=number,
        params={},
        architecture=ARCHITECTURE,
        seed=0,
        state=TrialState.COMPLETE,
        evaluation=Evaluation(measurements={"latency": latency(seconds)}, rungs=(rung,)),
    )


MEMBERS = [member(3, 0.1, 0.003), member(1, 0.2, 0.002), member(7, 0.3, 0.001)]
"""Better and slower, one after the other."""


def test_the_same_order_keeps_all():
    """Twice as slow everywhere: tau 1, nobody falls."""
    found = remeasured(
        MEMBERS, {3: [latency(0.006)], 1: [latency(0.004)], 7: [latency(0.002)]}, OBJECTIVES
    )
    assert (dict(found.fallen), found.orders[0].tau, found.orders[0].members) == ({}, 1.0, 3)


def test_who_is_dominated_now_falls_off_and_by_whom_is_said():
    """7 became slower than 1, which is more accurate: of three pairs one is turned round, tau (2 -
    1) / 3.
    """
    found = remeasured(
        MEMBERS, {3: [latency(0.006)], 1: [latency(0.003)], 7: [latency(0.004)]}, OBJECTIVES
    )
    assert found.fallen == {7: "dominated by 1"}
    assert found.orders[0].tau == pytest.approx(1 / 3)


def test_within_the_intervals_a_fall_is_not_sure():
    """The same with intervals that overlap."""
    figures = {3: [latency(0.006)], 1: [latency(0.0039, 3e-4)], 7: [latency(0.004, 3e-4)]}
    found = remeasured(MEMBERS, figures, OBJECTIVES)
    assert found.fallen == {7: "dominated by 1"}
    assert found.standings == {3: Standing.CERTAIN, 1: Standing.CERTAIN, 7: Standing.POSSIBLE}


def test_limits_and_missing_figures_are_reasons():
    """11 ms are beyond 10; a figure without a value has its reason."""
    none = Measurement(
        metric="latency",
        unit="s",
        value=None,
        method="clock",
        status=Status.CONTENDED,
        reason="busy",
    )
    found = remeasured(MEMBERS, {3: [latency(0.011)], 1: [none], 7: [latency(0.002)]}, OBJECTIVES)
    assert found.fallen == {3: "over the limit of latency", 1: "latency is contended: busy"}
    assert found.orders[0].members == 2
