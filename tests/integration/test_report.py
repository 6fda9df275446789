"""The report as a person uses it: in a real browser, from a file, with no network."""

import random
import re
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.pareto import front
from nas.core.plugins import load
from nas.core.study import Direction, Objective
from nas.core.tasks import Measured, Task
from nas.core.trial import Trial, TrialState
from nas.record import Store
from nas.report import pictures
from nas.report.contents import Study, read
from nas.report.page import report
from nas.searching.evaluators import StudyContext
from nas.testing.evaluators import ArithmeticEvaluator

pytestmark = pytest.mark.slow

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def file(record, tmp_path_factory):
    """The report of the study `pages`, written by the command."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    done = CliRunner().invoke(main, ["report", "pages", "--database", str(record), "-o", str(path)])
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def page(tab, file):
    """The report, open and drawn."""
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready]")
    yield tab
    assert tab.errors == []
    assert tab.asked == [file.as_uri()]  # no request left the file


def numbers(page):
    """The trials listed in the table."""
    return [
        int(row.get_attribute("data-trial")) for row in page.query_selector_all("#members tbody tr")
    ]


def test_lists_the_front_that_the_library_computes(page, record):
    with Store.open(record, read_only=True) as store:
        known = read(store, "pages", "nas.db")
    assert sorted(numbers(page)) == sorted(front(known.trials, known.objectives).members)


@pytest.mark.parametrize(("colour", "trace"), [("", "on the front"), ("parameters", "trials")])
def test_a_click_on_a_point_shows_its_network_and_its_export_command(page, colour, trace):
    """Of two objectives, and of three, the third by colour."""
    page.select_option("#colour", colour)
    number = page.evaluate(
        """(name) => {
        const plot = document.getElementById("scatter"), { xaxis, yaxis } = plot._fullLayout;
        const trace = plot.data.find((t) => t.name.startsWith(name)), box = plot.getBoundingClientRect();
        const i = trace.x.indexOf(Math.min(...trace.x));
        window.at = [box.left + xaxis._offset + xaxis.d2p(trace.x[i]), box.top + yaxis._offset + yaxis.d2p(trace.y[i])];
        return JSON.parse(document.getElementById("contents").textContent).trials.number[trace.customdata[i]];
    }""",
        trace,
    )
    page.mouse.move(*page.evaluate("window.at"))
    page.mouse.click(*page.evaluate("window.at"))
    page.wait_for_selector(f"#drawing[data-trial='{number}'] svg.net")
    assert page.inner_text("#details h2").startswith(f"Trial {number} ")
    if number in numbers(page):
        command = f"nas export pages --trial {number} -o pages-{number} --database "
        assert page.inner_text("#command").startswith(command)
    else:
        assert "Its weights are not stored" in page.inner_text("#details")
    assert "stage 4" in page.inner_html("#drawing")


def test_the_arrow_keys_walk_along_the_front(page):
    page.focus("#scatter")
    seen = set()
    for _ in numbers(page):
        page.keyboard.press("ArrowRight")
        seen.add(int(page.get_attribute("#drawing", "data-trial")))
    assert seen == set(numbers(page))


def test_the_filter_keeps_what_it_says(page, record):
    """Counted in a second way, from the record."""
    page.select_option("#rows", "all")
    page.fill("#filter", "latency < 0.5 ms and stage2.num_layers >= 3")
    with Store.open(record, read_only=True) as store:
        trials = store.trials("pages")
    expected = [
        t.number
        for t in trials
        if t.duplicate_of is None
        and t.params["stage2.num_layers"] >= 3
        and t.evaluation.value("latency") < 0.5e-3
    ]
    assert 0 < len(expected) < 60
    assert sorted(numbers(page)) == expected
    assert page.inner_text("#filter-says") == f"{len(expected)} of 60 trials"


def test_a_wrong_filter_says_what_would_be_right(page):
    page.fill("#filter", "speed > 3")
    assert "there is no “speed”; there are: error, latency, parameters" in page.inner_text(
        "#filter-says"
    )


def test_dark_mode_changes_the_page_and_its_plots(page):
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate("document.getElementById('scatter').layout.font.color") == "#e6eaf0"


def test_published_networks_stand_only_where_they_were_counted(page):
    """Points on two costs, lines beside a trained error, nothing on a measured latency."""
    named = "document.getElementById('scatter').data.map((t) => t.name)"
    assert "published VoVNets" not in page.evaluate(named)
    assert "neither trained nor measured here" in page.inner_text("#scatter-says")
    page.select_option("#x", "macs")
    assert "published VoVNets" not in page.evaluate(named)
    assert "were not trained here" in page.inner_text("#scatter-says")
    page.select_option("#y", "parameters")
    assert "published VoVNets" in page.evaluate(named)


STEPS = """() => {
    const drawn = document.querySelectorAll("#scatter .scatterlayer .trace path.js-line");
    return [...drawn].at(-1).getAttribute("d");
}"""
"""The path that Plotly draws through the front's members, from left to right."""


@pytest.mark.parametrize(
    ("direction", "corner"),
    [("minimize", r"M[^HVL]+H[^HVL]+V"), ("maximize", r"M[^HVL]+V[^HVL]+H")],
)
def test_the_front_is_a_staircase_of_what_is_reached(tab, record, tmp_path, direction, corner):
    """A step goes through the corner that is no better than either member: towards worse costs
    first where the cost is minimised, down first where it is maximised.
    """
    with Store.open(record, read_only=True) as store:
        known, trials = store.study("pages"), store.trials("pages")
    objectives = (
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", direction=Direction(direction)),
    )
    study = Study(
        record=replace(known, spec=replace(known.spec, objectives=objectives)),
        trials=trials,
        fronts=[front(trials, objectives)],
    )
    path = tmp_path / "report.html"
    path.write_text(report(study, NOW))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    drawn = tab.evaluate(STEPS)
    assert re.match(corner, drawn)
    assert "L" not in drawn
    assert tab.errors == []


def test_published_networks_that_do_not_fit_small_images_are_left_out(tab, record, tmp_path):
    """None fits images of 28 pixels, such as MNIST's. The page says so and needs no switch."""
    with Store.open(record, read_only=True) as store:
        known = read(store, "pages", "nas.db")
    spec = replace(
        known.record.spec, measurement=replace(known.record.spec.measurement, image_size=28)
    )
    path = tmp_path / "report.html"
    path.write_text(report(replace(known, record=replace(known.record, spec=spec)), NOW))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert "Published VoVNets do not fit images of 28 px." in tab.inner_text("#scatter-says")
    assert not tab.is_visible("#published")
    assert tab.errors == []


def test_a_third_objective_is_shown_by_colour(page):
    page.select_option("#colour", "parameters")
    colours = page.evaluate("document.getElementById('scatter').data[0].marker.color")
    assert len(set(colours)) > 10


def test_a_drag_along_an_axis_of_the_choices_narrows_the_filter(page):
    box = page.locator("#parallel").bounding_box()
    page.locator("#parallel").scroll_into_view_if_needed()
    box = page.locator("#parallel").bounding_box()
    page.mouse.move(box["x"] + 34, box["y"] + 330)
    page.mouse.down()
    page.mouse.move(box["x"] + 34, box["y"] + 250)
    page.mouse.up()
    assert page.input_value("#filter").startswith("stem_mid >= 8 and stem_mid <= ")


def many(count):
    """So many trials with figures that are arithmetic, each ended a second after the one before."""
    space, draw = load("nas.spaces", "osa_cifar"), random.Random(0)
    return [
        Trial(
            number=number, params=params, architecture=space.decode(params), seed=0, started_at=NOW
        )
        for number in range(count)
        for params in [{choice.name: draw.choice(choice.values) for choice in space.choices}]
    ]


def ended(trial, evaluator):
    """The trial with everything that the evaluator finds."""
    known = trial.evaluation
    for event in evaluator.steps(
        Task(number=trial.number, architecture=trial.architecture, seed=0)
    ):
        known = (
            known.with_measurements(event.measurements)
            if isinstance(event, Measured)
            else known.with_rung(event.rung)
        )
    return replace(trial, evaluation=known).moved_to(
        TrialState.COMPLETE, finished_at=NOW + timedelta(seconds=trial.number + 1)
    )


def test_five_thousand_trials_open_in_seconds(tab, record, tmp_path):
    """1.3 to 2 s where nothing else runs; the limit here is for machines that do other things as
    well.
    """
    with Store.open(record, read_only=True) as store:
        known = store.study("pages")
    evaluator = ArithmeticEvaluator(StudyContext(spec=known.spec, artifacts="", folder=""))
    trials = [ended(trial, evaluator) for trial in many(5000)]
    path = tmp_path / "report.html"
    path.write_text(
        report(
            Study(record=known, trials=trials, fronts=[front(trials, known.spec.objectives)]), NOW
        )
    )
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert int(tab.evaluate("document.documentElement.dataset.ready")) < 8000
    tab.wait_for_selector("#drawing svg.net")
    assert tab.inner_text("#filter-says") == "5000 finished trials"
    assert tab.errors == []


def test_a_study_without_trials_has_a_page_too(tab, record, tmp_path):
    with Store.open(record, read_only=True) as store:
        known = store.study("pages")
    path = tmp_path / "report.html"
    path.write_text(report(Study(record=known, trials=[], fronts=[]), NOW))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert tab.errors == []


def test_the_main_plots_are_pictures_large_enough_to_print(record, tmp_path):
    pytest.importorskip("matplotlib")
    done = CliRunner().invoke(
        main, ["report", "pages", "--database", str(record), "--png", str(tmp_path / "pictures")]
    )
    assert done.exit_code == 0, done.output
    names = {"front-latency-error", "hypervolume", "importance-error", "importance-latency"}
    written = {path.stem: path.read_bytes() for path in (tmp_path / "pictures").iterdir()}
    assert written.keys() == names
    for picture in written.values():
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        assert (
            min(struct.unpack(">II", picture[16:24])) >= 1000
        )  # width and height of the header chunk


def test_bars_of_a_picture_reach_to_the_ends_of_the_interval():
    trials = {
        "values": {"latency": [3.0, 5.0, 7.0]},
        "low": {"latency": [2.5, None, 7.0]},
        "high": {"latency": [4.0, None, 9.0]},
    }
    assert pictures._bars(trials, "latency", [0, 1, 2]) == [[0.5, 0.0, 0.0], [1.0, 0.0, 2.0]]
    assert pictures._bars(trials, "error", [0]) is None
