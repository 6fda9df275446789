"""Trials: their states, their losses, their evaluations."""

from dataclasses import replace
from itertools import product

import pytest

from nas.core.architecture import Architecture, OsaStage
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, Status
from nas.core.study import Direction, Objective, TrainedMetric, modelled_metric
from nas.core.trial import Evaluation, Rung, Trial, TrialState

STAGE = OsaStage(mid_channels=4, out_channels=8, num_layers=1)
ARCHITECTURE = Architecture(stem_channels=(4, 4, 8), stages=(STAGE,) * 3)
TRIAL = Trial(number=7, params={}, architecture=ARCHITECTURE, seed=0)
ALLOWED = {
    ("running", "complete"),
    ("running", "stopped"),
    ("running", "failed"),
    ("failed", "running"),
}


@pytest.mark.parametrize(("before", "after"), list(product(TrialState, TrialState)))
def test_a_trial_moves_only_between_the_states_that_the_table_allows(before, after):
    trial = replace(TRIAL, state=before)
    if (before.value, after.value) in ALLOWED:
        assert trial.moved_to(after).state is after
    else:
        with pytest.raises(InvalidValueError, match=f"trial 7 cannot go from {before} to {after}"):
            trial.moved_to(after)


def rung(epochs, error):
    return Rung(epochs=epochs, metrics={"error": error})


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"name": "box ap"}, "must be a word"),
        ({"low": 1.0}, "low must be less than high"),
        ({"high": float("nan")}, "high must be a finite number"),
    ],
)
def test_a_trained_metric_has_a_name_and_bounds(changes, match):
    with pytest.raises(InvalidValueError, match=match):
        TrainedMetric(**{"name": "ap", **changes})


def test_values_of_a_trained_metric_are_within_its_bounds():
    """A metric without bounds takes every finite value, and cannot be modelled."""
    ap = TrainedMetric(name="ap", direction="maximize")
    assert (ap.best, ap.is_share, ap.shortfall(0.75)) == (1.0, True, 0.25)
    assert ap.problem(0.5) == ""
    assert ap.problem(1.5) == "ap must be from 0 to 1, not 1.5"
    loss = TrainedMetric(name="loss", low=None, high=None)
    assert (loss.best, loss.problem(-5.0)) == (None, "")
    assert loss.problem(float("inf")) == "loss must be from -inf to inf, not inf"
    assert modelled_metric([Objective(metric="loss")], {"loss": loss}) is None
    assert modelled_metric([Objective(metric="ap")], {"ap": ap}) is None


def test_the_error_of_a_trial_is_that_of_its_last_rung():
    evaluation = Evaluation().with_rung(rung(1, 0.5)).with_rung(rung(2, 0.25))
    assert evaluation.value("error") == 0.25
    assert Evaluation().value("error") is None


@pytest.mark.parametrize("epochs", [1, 0.5])
def test_a_rung_with_no_more_epochs_than_the_last_is_refused(epochs):
    with pytest.raises(InvalidValueError, match="comes after"):
        Evaluation().with_rung(rung(1, 0.5)).with_rung(rung(epochs, 0.25))


def test_losses_are_values_with_maximised_ones_negated():
    """There are no losses if a value is missing."""
    objectives = (Objective(metric="error"), Objective(metric="rate", direction=Direction.MAXIMIZE))
    half = replace(TRIAL, evaluation=Evaluation().with_rung(rung(1, 0.5)))
    assert half.losses(objectives) is None
    figure = Measurement(metric="rate", unit="1/s", value=30.0, method="given")
    assert replace(half, evaluation=half.evaluation.with_measurements([figure])).losses(
        objectives
    ) == (0.5, -30.0)


def test_violation_is_the_share_by_which_limits_are_exceeded():
    objectives = (
        Objective(metric="latency", limit=4.0),
        Objective(metric="rate", direction=Direction.MAXIMIZE, limit=10.0),
    )
    figures = [
        Measurement(metric="latency", unit="s", value=5.0, method="given"),
        Measurement(metric="rate", unit="1/s", value=8.0, method="given"),
    ]
    trial = replace(TRIAL, evaluation=Evaluation().with_measurements(figures))
    assert trial.violation(objectives) == pytest.approx(0.25 + 0.2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_measurement_that_is_not_finite_is_refused(value):
    with pytest.raises(InvalidValueError, match="finite"):
        Measurement(metric="latency", unit="s", value=value, method="given")


def test_status_and_reason_of_a_figure_must_fit_its_value():
    """A figure without a value needs another status and a reason, one with a value a
    usable status.
    """
    for wrong in (
        {"value": None},
        {"value": 1.0, "status": Status.UNAVAILABLE, "reason": "why"},
        {"value": None, "status": Status.CONTENDED},
    ):
        with pytest.raises(InvalidValueError):
            Measurement(metric="latency", unit="s", method="given", **wrong)
    assert Measurement.unavailable("energy", "J", "no sensor").value is None
