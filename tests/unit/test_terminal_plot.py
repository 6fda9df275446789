"""The plot of characters at the end of a search: points where their values put them."""

from dataclasses import replace

import pytest

from nas.cli.group import PLAIN
from nas.core.measurement import Measurement
from nas.core.pareto import Outcomes
from nas.core.study import Objective, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.report.terminal_plot import HEIGHT, WIDTH, terminal_plot
from nas.testing.sample_records import architecture

SPEC = StudySpec(
    name="plot",
    space="osa_tiny",
    objectives=(Objective(metric="error"), Objective(metric="latency")),
)


def trial(number, error, latency_s, state=TrialState.COMPLETE):
    figure = Measurement(metric="latency", unit="s", value=latency_s, method="given")
    rung = Rung(epochs=1, metrics={"error": error})
    known = Trial(number=number, params={}, architecture=architecture(8), seed=number)
    evaluation = Evaluation(measurements={"latency": figure}, rungs=(rung,))
    return replace(known, state=state, evaluation=evaluation)


def plot(trials, members, spec=SPEC, **options):
    outcomes = Outcomes.of(trials, spec.objectives)
    return terminal_plot(outcomes, members, spec, {"error": "1", "latency": "s"}, **options)


def area(lines):
    """The rows of points, from the top."""
    return [line.partition("│")[2] for line in lines if "│" in line]


def test_points_lie_where_their_values_are():
    """The best error is at the bottom, the lowest latency at the left."""
    trials = [
        trial(0, 0.5, 0.001),
        trial(1, 0.1, 0.003),
        trial(2, 0.3, 0.002),
        trial(3, 0.5, 0.003),
    ]
    rows = area(plot(trials, {0, 1, 2}))
    assert (len(rows), {len(row) for row in rows}) == (HEIGHT, {WIDTH})
    assert (rows[0][0], rows[0][-1]) == ("●", "·")
    assert rows[-1][-1] == "●"
    assert "".join(rows).count("●") == 3


def test_the_axes_have_their_ends_with_units():
    lines = plot([trial(0, 0.5, 0.001), trial(1, 0.1, 0.003)], {1})
    text = "\n".join(lines)
    for end in ("50.00 %", "10.00 %", "1 ms", "3 ms"):
        assert end in text


def test_only_complete_trials_are_drawn_and_two_are_needed():
    failed = trial(1, 0.1, 0.003, TrialState.RUNNING)
    assert plot([trial(0, 0.5, 0.001), failed], {0}) == []
    one = replace(SPEC, objectives=SPEC.objectives[:1])
    assert plot([trial(0, 0.5, 0.001)] * 2, {0}, one) == []


def test_a_member_covers_another_trial_at_the_same_place():
    trials = [trial(0, 0.5, 0.001), trial(1, 0.5, 0.001), trial(2, 0.1, 0.002)]
    assert area(plot(trials, {0, 2}))[0][0] == "●"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width):
    """The area of the points shrinks, and the legend gets a line of its own."""
    lines = plot([trial(0, 0.5, 0.001), trial(1, 0.1, 0.003)], {1}, width=width)
    assert max(map(len, lines)) <= width
    rows = area(lines)
    assert (rows[0][0], rows[-1][-1]) == ("·", "●")
    assert {len(row) for row in rows} == {min(WIDTH, width - len("  50.00 %  "))}
    assert "● on the front  · other trials" in "\n".join(lines)


def test_nothing_is_drawn_on_a_terminal_without_room():
    assert plot([trial(0, 0.5, 0.001), trial(1, 0.1, 0.003)], {1}, width=25) == []


def test_every_character_has_a_plain_replacement():
    """Terminals of ASCII show those in place of `?`."""
    lines = plot([trial(0, 0.5, 0.001), trial(1, 0.1, 0.003)], {1})
    assert {each for each in "".join(lines) if not each.isascii()} <= set(PLAIN)
