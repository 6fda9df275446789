"""Contents of the pages, against numbers that were counted by hand."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.analysis.figure_quality import figure_quality
from nas.analysis.rank_agreement import agreements
from nas.core.architecture import Attention, OsaStage
from nas.core.errors import InvalidValueError
from nas.core.measurement import Measurement, Status
from nas.core.pareto import ParetoFront
from nas.core.published import PUBLISHED
from nas.core.search_space import Choice
from nas.core.study import ERROR, Objective, StudySpec
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.record import StudyRecord
from nas.record.records import covered_s
from nas.report import contents
from nas.report.history import busy_spans, device_seconds, front_at, ledger, steps
from nas.report.page import embedded
from nas.report.svg import as_file, draw_svg
from nas.sampling.importance import importances

START = datetime(2030, 1, 1, tzinfo=UTC)
NET = PUBLISHED["vovnet27_slim"]


def trial(number, start, end, *rungs, measure_s=0.0):
    """Make a complete trial from `start` to `end` seconds; `rungs` are (epochs, error, train_s)."""
    known = Evaluation(
        measure_s=measure_s,
        rungs=tuple(
            Rung(
                epochs=epochs,
                metrics={"error": error},
                train_loss=1.0,
                images=1,
                train_s=seconds,
                validation_s=0.5,
            )
            for epochs, error, seconds in rungs
        ),
    )
    begun = Trial(
        number=number,
        params={},
        architecture=NET,
        seed=0,
        evaluation=known,
        started_at=START + timedelta(seconds=start),
    )
    return begun.moved_to(TrialState.COMPLETE, finished_at=START + timedelta(seconds=end))


def snapshot(after, *members):
    """Make the front that was recorded after this many trials."""
    return ParetoFront(members=members, hypervolume=float(after), after=after, feasible=True)


def test_the_search_clock_stops_while_no_trial_runs():
    """Two trials overlap from 0 to 20 s, and one runs from 100 to 130 s: 50 seconds."""
    spans = busy_spans([trial(0, 0, 10), trial(1, 5, 20), trial(2, 100, 130)])
    assert covered_s(spans) == 50
    moments = [(START + timedelta(seconds=s)).timestamp() for s in (-5, 10, 50, 110, 999)]
    assert [covered_s(spans, moment) for moment in moments] == [0, 10, 20, 30, 50]
    assert covered_s(busy_spans([])) == 0


def test_a_duplicate_that_waited_for_its_original_is_no_time_of_searching():
    """An interrupted search of 10 s was resumed a day later for 5 s, which ended the duplicate."""
    duplicate = replace(trial(1, 5, 86400), duplicate_of=0)
    assert covered_s(busy_spans([trial(0, 86385, 86400), duplicate])) == 15


def test_steps_hold_the_time_spent_until_each_front():
    """Trial 1 ended first: 3 s of measuring, 4 s of training, 0.5 s of validation."""
    trials = [trial(0, 0, 30, (1, 0.5, 6.0)), trial(1, 0, 10, (1, 0.4, 4.0), measure_s=3.0)]
    first, second = steps(trials, [snapshot(1, 1), snapshot(2, 1)])
    assert (first.device_s, first.searched_s) == (7.5, 10)
    assert (second.device_s, second.searched_s) == (14.0, 30)


def test_an_earlier_front_is_the_last_one_recorded_until_then():
    """Its members are those of the last change, and `after` is the requested number of trials."""
    fronts = [snapshot(1, 0), snapshot(4, 3), snapshot(9, 3, 8)]
    asked = (1, 3, 4, 8, 9, 100)
    assert [front_at(fronts, after, 100).members for after in asked] == [
        (0,),
        (0,),
        (3,),
        (3,),
        (3, 8),
        (3, 8),
    ]
    assert [front_at(fronts, after, 100).after for after in asked] == list(asked)
    with pytest.raises(InvalidValueError, match="no front after 0 trials; the first was after 1"):
        front_at(fronts, 0, 100)
    with pytest.raises(InvalidValueError, match="no front after 101 trials: 100 are finished"):
        front_at(fronts, 101, 100)


def test_the_ledger_adds_up_to_the_time_between_start_and_end():
    """The rest of the 30 s is `other`."""
    rows = ledger([trial(0, 0, 30, (1, 0.5, 6.0), (2, 0.4, 7.0), measure_s=2.0)])
    (complete,) = [row for row in rows if row["trials"]]
    assert complete == {
        "state": "complete",
        "trials": 1,
        "measuring": 2.0,
        "training": 13.0,
        "validation": 1.0,
        "waiting": 0.0,
        "other": 14.0,
        "energy": None,
    }
    worked = trial(0, 0, 30, (1, 0.5, 6.0), measure_s=2.0)
    assert device_seconds(worked) == 8.5
    assert device_seconds(replace(worked, origin="other:0")) == 0.0, "evaluated elsewhere"


def test_taus_of_the_same_and_the_opposite_order():
    same = [trial(n, 0, 1, (1, 0.1 * n, 1.0), (2, 0.05 * n, 1.0)) for n in range(4)]
    opposite = [trial(n, 0, 1, (1, 0.1 * n, 1.0), (2, 0.9 - 0.1 * n, 1.0)) for n in range(4)]
    assert [(a.tau, a.trials) for a in agreements(same, ERROR)] == [(pytest.approx(1.0), 4)]
    assert [a.tau for a in agreements(opposite, ERROR)] == [pytest.approx(-1.0)]
    assert agreements(same[:2], ERROR) == []


def test_the_best_quarter_may_disagree_where_all_agree():
    """Twenty trials in the same order at both rungs, but for the best five, which are reversed at
    the second; with fewer trials a quarter is too little to tell.
    """
    errors = [(0.5 + 0.01 * n, 0.3 + 0.01 * (4 - n if n < 5 else n)) for n in range(20)]
    trials = [
        trial(n, 0, 1, (1, first, 1.0), (2, last, 1.0)) for n, (first, last) in enumerate(errors)
    ]
    (found,) = agreements(trials, ERROR)
    pairs = 20 * 19 / 2
    assert (found.tau, found.top_tau, found.top) == (
        pytest.approx((pairs - 2 * 10) / pairs),
        pytest.approx(-1),
        5,
    )
    assert agreements(trials[:16], ERROR)[0].top_tau is None


def test_half_widths_and_statuses_of_measurements():
    """2 ms with an interval of 1.9 to 2.1 ms: 5 %. A figure that was refused is counted and has no
    width.
    """
    good = Measurement(
        metric="latency", unit="s", value=0.002, ci_low=0.0019, ci_high=0.0021, method="clock"
    )
    bad = Measurement(
        metric="latency",
        unit="s",
        value=None,
        status=Status.CONTENDED,
        reason="busy",
        method="clock",
    )
    trials = [
        replace(trial(n, 0, 1), evaluation=Evaluation(measurements={"latency": m}))
        for n, m in enumerate((good, bad))
    ]
    (row,) = figure_quality(trials)
    assert row["median_half_width"] == pytest.approx(0.05)
    assert {name: count for name, count in row["statuses"].items() if count} == {
        "ok": 1,
        "contended": 1,
    }
    assert row["reasons"] == {"busy": 1}


def test_the_choice_that_decides_the_loss_has_nearly_all_the_importance():
    """With one trial fewer than the minimum there is no importance."""
    choices = (
        Choice(name="depth", values=tuple(range(10))),
        Choice(name="other", values=("a", "b")),
    )
    params = [
        {"depth": depth, "other": other} for depth in range(10) for other in "ab" for _ in range(3)
    ]
    shares = importances(choices, params, [float(each["depth"]) for each in params])
    assert shares["depth"] > 0.95
    assert sum(shares.values()) == pytest.approx(1)
    assert importances(choices, params[:19], [float(each["depth"]) for each in params[:19]]) == {}


def shown(trials, **facts):
    """Return the contents of a study of these trials."""
    spec = StudySpec(name="NUMBER", space="osa_tiny", objectives=(Objective(metric="error"),))
    record = StudyRecord(
        spec=spec,
        dataset="none",
        classes=10,
        artifacts="",
        numerics={},
        identity=None,
        version="1",
        created_at=START,
        counts={},
    )
    return contents.contents(contents.Study(record=record, trials=trials, fronts=[], **facts))


def test_networks_from_elsewhere_are_none_of_the_budget():
    """The page counts the study's own architectures as `nas status` does."""
    own = trial(0, 0, 1, (1, 0.5, 1.0))
    copies = [replace(own, number=number, origin=f"other:{number}") for number in (1, 2)]
    repeated = replace(own, number=3, duplicate_of=0)
    summary = shown([own, *copies, repeated])["summary"]
    assert summary["states"] == {"running": 0, "complete": 1, "stopped": 0, "failed": 0}
    assert (summary["copied"], summary["repeated"]) == (2, 1)


def test_a_page_has_the_export_command_of_each_network_with_weights():
    """Names are in it as they are, whatever words they contain."""
    trials = [trial(number, 0, 1, (1, 0.5, 1.0)) for number in (0, 1)]
    page = shown(trials, database="NUMBER.db", with_weights=frozenset({1}))
    command = "nas export NUMBER --trial 1 -o NUMBER-1 --database NUMBER.db"
    assert page["trials"]["export"] == [None, command]


def test_published_networks_are_counted_where_they_fit():
    """28 pixels become 14, 7, 3 and 1, of which the last pooling leaves nothing; 29 become 15, 8,
    4, 2 and 1.
    """
    assert contents._published(28, 10) == []
    names = [row["name"] for row in contents._published(29, 10)]
    assert len(names) == 13
    assert "vovnet27_slim" in names


@given(
    st.recursive(
        st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
    )
)
def test_embedded_json_keeps_its_value_and_cannot_end_its_element(value):
    """No character of it could end the script element."""
    import json

    text = str(embedded(value))
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_drawing_is_well_formed_and_shows_every_width(name):
    """The text is parsed as XML. The widths are the architecture's; of 224 pixels, the last stage
    has an eighth or a thirty-second.
    """
    text = "\n".join(ET.fromstring(as_file(draw_svg(PUBLISHED[name], 224, 1000))).itertext())  # noqa: S314
    for stage in PUBLISHED[name].stages:
        assert f"{stage.num_layers} x" in text
        assert f"{stage.mid_channels} ch." in text
        assert f"1x1 → {stage.out_channels}" in text
    assert ("28 x 28" if name.endswith("_cifar") else "7 x 7") in text
    assert ("eSE" in text) == (PUBLISHED[name].attention is not Attention.NONE)


@given(
    layers=st.integers(1, 64),
    kernel=st.sampled_from((3, 5)),
    classes=st.sampled_from((0, 10)),
    widths=st.tuples(st.integers(1, 8192), st.integers(1, 8192)),
)
def test_every_network_is_drawn_inside_its_frame(layers, kernel, classes, widths):
    """No rectangle crosses the border of the view box."""
    stage = OsaStage(
        mid_channels=widths[0], out_channels=widths[1], num_layers=layers, kernel_size=kernel
    )
    root = ET.fromstring(draw_svg(replace(NET, stages=(stage,) * 3), 64, classes))  # noqa: S314
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, wide, tall = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + tall <= height
