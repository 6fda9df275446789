"""A front measured again, with three members whose figures were chosen by hand."""

import pytest

from nas.analysis.remeasured import remeasured
from nas.cli.study.remeasure import summary
from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import Measurement, Status
from nas.core.pareto import Standing
from nas.core.study import Objective
from nas.core.trial import Evaluation, Rung, Trial, TrialState

OBJECTIVES = (Objective(metric="error"), Objective(metric="latency", limit=0.010))
STAGE = OsaStage(mid_channels=4, out_channels=8, num_layers=1)
ARCHITECTURE = Architecture(stem_channels=(4, 4, 8), stages=(STAGE,) * 3)


def latency(value, half=0.0):
    """Make a latency with its interval."""
    return Measurement(
        metric="latency",
        unit="s",
        value=value,
        ci_low=value - half,
        ci_high=value + half,
        method="clock",
    )


def member(number, error, seconds):
    rung = Rung(epochs=1, metrics={"error": error})
    return Trial(
        number=number,
        params={},
        architecture=ARCHITECTURE,
        seed=0,
        state=TrialState.COMPLETE,
        evaluation=Evaluation(measurements={"latency": latency(seconds)}, rungs=(rung,)),
    )


MEMBERS = [member(3, 0.1, 0.003), member(1, 0.2, 0.002), member(7, 0.3, 0.001)]
"""Each has a higher error and a lower latency than the previous one."""


def test_one_reason_for_all_members_is_printed_once():
    """That other processes use the device is long to read, and the same for every network."""
    why = "other processes use 1.4 of 2 cores"
    contended = Measurement(
        metric="latency",
        unit="s",
        value=None,
        method="clock",
        status=Status.CONTENDED,
        reason=why,
    )
    figures = {3: [contended], 1: [contended], 7: [latency(0.002)]}
    assert list(summary(remeasured(MEMBERS, figures, OBJECTIVES)))[1:] == [
        "2 of 3 fall off",
        f"3, 1: latency is contended: {why}",
    ]


def test_members_in_the_same_order_all_remain():
    """All are twice as slow: tau is 1."""
    compared = remeasured(
        MEMBERS, {3: [latency(0.006)], 1: [latency(0.004)], 7: [latency(0.002)]}, OBJECTIVES
    )
    assert (dict(compared.fallen), compared.orders[0].tau, compared.orders[0].members) == (
        {},
        1.0,
        3,
    )


def test_a_dominated_member_falls_and_the_reason_names_its_rival():
    """7 became slower than 1, which has the lower error. Of three pairs one is turned: tau is (2 -
    1) / 3.
    """
    compared = remeasured(
        MEMBERS, {3: [latency(0.006)], 1: [latency(0.003)], 7: [latency(0.004)]}, OBJECTIVES
    )
    assert compared.fallen == {7: "dominated by 1"}
    assert compared.orders[0].tau == pytest.approx(1 / 3)


def test_a_fall_within_the_intervals_is_uncertain():
    """The case is the same, with intervals that overlap."""
    figures = {3: [latency(0.006)], 1: [latency(0.0039, 3e-4)], 7: [latency(0.004, 3e-4)]}
    compared = remeasured(MEMBERS, figures, OBJECTIVES)
    assert compared.fallen == {7: "dominated by 1"}
    assert compared.standings == {3: Standing.CERTAIN, 1: Standing.CERTAIN, 7: Standing.POSSIBLE}


def test_limits_and_missing_figures_are_reasons():
    """11 ms are over the limit of 10 ms. A figure without a value has a reason of its own."""
    none = Measurement(
        metric="latency",
        unit="s",
        value=None,
        method="clock",
        status=Status.CONTENDED,
        reason="busy",
    )
    compared = remeasured(
        MEMBERS, {3: [latency(0.011)], 1: [none], 7: [latency(0.002)]}, OBJECTIVES
    )
    assert compared.fallen == {3: "over the limit of latency", 1: "latency is contended: busy"}
    assert compared.orders[0].members == 2
