"""The report in a real browser, opened from a file without a network."""

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
    """The report, opened and drawn."""
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready]")
    yield tab
    assert tab.errors == []
    assert tab.asked == [file.as_uri()]  # no request left the file


def numbers(page):
    """Return the trials that the table lists."""
    return [
        int(row.get_attribute("data-trial")) for row in page.query_selector_all("#members tbody tr")
    ]


def test_lists_the_front_that_the_library_computes(page, record):
    """The table and `front` have the same members."""
    with Store.open(record, read_only=True) as store:
        known = read(store, "pages", "nas.db")
    assert sorted(numbers(page)) == sorted(front(known.trials, known.objectives).members)


@pytest.mark.parametrize(("colour", "trace"), [("", "on the front"), ("parameters", "trials")])
def test_a_click_on_a_point_shows_its_network_and_its_export_command(page, colour, trace):
    """This holds for two metrics, and for a third one as colour."""
    page.select_option("#colour", colour)
    number = page.evaluate(
        """(name) => {
        const plot = document.getElementById("scatter"), { xaxis, yaxis } = plot._fullLayout;
        const trace = plot.data.find((t) => t.name.startsWith(name));
        const box = plot.getBoundingClientRect(), i = trace.x.indexOf(Math.min(...trace.x));
        window.at = [
            box.left + xaxis._offset + xaxis.d2p(trace.x[i]),
            box.top + yaxis._offset + yaxis.d2p(trace.y[i]),
        ];
        const contents = JSON.parse(document.getElementById("contents").textContent);
        return contents.trials.number[trace.customdata[i]];
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
    """They select every member once."""
    page.focus("#scatter")
    seen = set()
    for _ in numbers(page):
        page.keyboard.press("ArrowRight")
        seen.add(int(page.get_attribute("#drawing", "data-trial")))
    assert seen == set(numbers(page))


def test_the_filter_selects_matching_trials(page, record):
    """The expected trials are counted from the record."""
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


def test_a_wrong_filter_lists_the_possible_names(page):
    """The message is beside the field."""
    page.fill("#filter", "speed > 3")
    assert "there is no “speed”; there are: error, latency, parameters" in page.inner_text(
        "#filter-says"
    )


def test_dark_mode_changes_the_page_and_its_plots(page):
    """Background and font have other colours."""
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.evaluate("document.getElementById('scatter').layout.font.color") == "#e6eaf0"


def test_published_networks_are_shown_for_counted_costs_only(page):
    """They are points for two counted costs, lines beside a trained error, and absent for a
    measured latency.
    """
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
def test_the_front_is_a_staircase(tab, record, tmp_path, direction, corner):
    """A step passes through the corner that is no better than either member. It first goes to the
    right if the cost on x is minimised, and first down or up if it is maximised.
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
    path.write_text(report(study))
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
    path.write_text(report(replace(known, record=replace(known.record, spec=spec))))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert "Published VoVNets do not fit images of 28 px." in tab.inner_text("#scatter-says")
    assert not tab.is_visible("#published")
    assert tab.errors == []


def test_a_third_objective_is_shown_by_colour(page):
    """The points have more than ten different colours."""
    page.select_option("#colour", "parameters")
    colours = page.evaluate("document.getElementById('scatter').data[0].marker.color")
    assert len(set(colours)) > 10


def test_a_drag_along_an_axis_of_the_choices_narrows_the_filter(page):
    """The filter has conditions on that choice."""
    box = page.locator("#parallel").bounding_box()
    page.locator("#parallel").scroll_into_view_if_needed()
    box = page.locator("#parallel").bounding_box()
    page.mouse.move(box["x"] + 34, box["y"] + 330)
    page.mouse.down()
    page.mouse.move(box["x"] + 34, box["y"] + 250)
    page.mouse.up()
    assert page.input_value("#filter").startswith("stem_mid >= 8 and stem_mid <= ")


def many(count):
    """Make trials of random networks without figures."""
    space, draw = load("nas.spaces", "osa_cifar"), random.Random(0)
    return [
        Trial(
            number=number, params=params, architecture=space.decode(params), seed=0, started_at=NOW
        )
        for number in range(count)
        for params in [{choice.name: draw.choice(choice.values) for choice in space.choices}]
    ]


def ended(trial, evaluator):
    """Complete a trial with all figures of the evaluator."""
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
    """It takes 1.3 to 2 s on an idle machine. The limit is for busy machines."""
    with Store.open(record, read_only=True) as store:
        known = store.study("pages")
    evaluator = ArithmeticEvaluator(StudyContext(spec=known.spec, artifacts="", folder=""))
    trials = [ended(trial, evaluator) for trial in many(5000)]
    path = tmp_path / "report.html"
    path.write_text(
        report(Study(record=known, trials=trials, fronts=[front(trials, known.spec.objectives)]))
    )
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert int(tab.evaluate("document.documentElement.dataset.ready")) < 8000
    tab.wait_for_selector("#drawing svg.net")
    assert tab.inner_text("#filter-says") == "5000 finished trials"
    assert tab.errors == []


def test_a_study_without_trials_has_a_page_too(tab, record, tmp_path):
    """The page has no errors."""
    with Store.open(record, read_only=True) as store:
        known = store.study("pages")
    path = tmp_path / "report.html"
    path.write_text(report(Study(record=known, trials=[], fronts=[])))
    tab.goto(path.as_uri())
    tab.wait_for_selector("html[data-ready]")
    assert tab.errors == []


def test_the_main_plots_are_pictures_large_enough_to_print(record, tmp_path):
    """Width and height are at least 1000 pixels."""
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
    """A missing bound gives a bar of length 0, and a figure without intervals no bars."""
    trials = {
        "values": {"latency": [3.0, 5.0, 7.0]},
        "low": {"latency": [2.5, None, 7.0]},
        "high": {"latency": [4.0, None, 9.0]},
    }
    assert pictures._bars(trials, "latency", [0, 1, 2]) == [[0.5, 0.0, 0.0], [1.0, 0.0, 2.0]]
    assert pictures._bars(trials, "error", [0]) is None
