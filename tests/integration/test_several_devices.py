"""Objectives that name devices: one training serves all, and each device has its own figures."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from click.testing import CliRunner

from nas.api import open as open_record
from nas.cli import main
from nas.core import plugins
from nas.core.errors import InvalidValueError, StudyConflictError, StudyFileError
from nas.core.measurement import Device, MeasurementPlan
from nas.core.study import Budget, Objective, StoppingSpec, StudySpec, rungs_at
from nas.measuring.devices import book
from nas.record import Store
from nas.report.contents import contents, read
from nas.searching.launch import open_search
from nas.searching.study_file import parse_study

PI = Objective(metric="latency", device="pi5", limit=4e-3)
JETSON = Objective(metric="latency", device="jetson", limit=0.5)
SPEC = StudySpec(
    name="two",
    space="osa_cifar",
    rungs=rungs_at(1, 2),
    stopping=StoppingSpec(futility=True),
    objectives=(Objective(metric="error", reference=1.0), PI, JETSON),
    budget=Budget(trials=24, fresh=0, certify=False),
)

KEYS = ["error", "latency@pi5", "latency@jetson"]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A record of a study with the figures of two devices, which are arithmetic."""
    folder = tmp_path_factory.mktemp("two")
    with (
        Store.open(folder / "nas.db") as store,
        open_search(
            SPEC,
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=folder,
            artifacts=folder,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as search,
    ):
        search.run()
    return folder / "nas.db"


@pytest.fixture
def devices(tmp_path, monkeypatch):
    """A device book with a Raspberry Pi and a Jetson."""
    monkeypatch.setenv(book.BOOK_VARIABLE, str(tmp_path / "devices.json"))
    for name in ("pi5", "jetson"):
        book.add(name, book.Entry(address=f"unix:/{name}.sock"))


def run(*words):
    """Run a command and return what it prints."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_each_device_has_its_own_column(record):
    """The sampler proposed networks by both costs, and the limit of the Pi ended some of them."""
    with Store.open(record, read_only=True) as store:
        trials, study = store.trials("two"), store.study("two")
    assert study.spec == SPEC
    reasons = {trial.reason for trial in trials}
    assert any(reason.startswith("latency@pi5 ") for reason in reasons), reasons
    for trial in trials:
        figures = trial.evaluation.measurements
        assert figures["latency@pi5"].device.device_class == "class of pi5"
        assert figures["latency@jetson"].device.device_class == "class of jetson"


def test_front_report_page_and_api_show_each_device(record):
    table = run("front", "two", "--database", str(record), "--format", "csv").splitlines()
    heading = table[0].split(",")
    assert [name for name in heading if name in KEYS] == KEYS
    within = run("front", "--database", str(record), "--where", "latency@pi5 < 1 us", "--sort",
                 "latency@jetson", "--format", "json")  # fmt: skip
    assert json.loads(within)["members"] == []
    with Store.open(record, read_only=True) as store:
        page = contents(read(store, "two", str(record)))
    assert [metric["name"] for metric in page["metrics"]][:3] == KEYS
    frame = open_record(record).study("two").front()
    assert {"latency@pi5_s", "latency@jetson_s"} <= set(frame.columns)
    assert "latency@jetson" in run("status", "two", "--database", str(record))


def test_sql_users_read_metric_and_device(record):
    query = "SELECT DISTINCT metric, device FROM pareto ORDER BY position, metric, device"
    with closing(sqlite3.connect(record)) as connection:
        rows = set(connection.execute(query))
        values = connection.execute("SELECT count(*) FROM pareto WHERE value IS NULL").fetchone()
    assert rows == {("error", None), ("latency", "pi5"), ("latency", "jetson")}
    assert values == (0,)


def test_figures_of_another_device_under_the_name_are_refused(record):
    """The name of a device stands for one class of devices in a study."""
    with Store.open(record) as store:
        figure = store.trial("two", 0).evaluation.measurements["latency@pi5"]
        other = Device(kind="cpu", name="pi5", identity="other", device_class="class of jetson")
        with pytest.raises(StudyConflictError, match="latency@pi5 cannot be compared"):
            store.add_measurements("two", 0, [replace(figure, device=other)], 0.0)


@pytest.mark.parametrize(
    ("objective", "problem"),
    [
        ("{metric: latency, device: pi4}", "objectives[1].device: no 'pi4' in devices"),
        ("{metric: parameters, device: pi5}", "parameters is the same on every device"),
        ("{metric: error, device: pi5}", "training gives error, which has no device"),
        ("{metric: latency, device: pi5}, {metric: latency, device: pi5}", "once for each device"),
        ("{metric: latency, device: pi5}, {metric: latency}", "once for each device"),
        ("{metric: latency, device: 5}", "objectives[1].device: Input should be a valid string"),
    ],
)
@pytest.mark.usefixtures("devices")
def test_a_wrong_device_of_an_objective_is_refused(objective, problem):
    text = (
        "name: two\nspace: osa_tiny\nmeasurement: {device: pi5}\n"
        f"objectives: [{{metric: macs}}, {objective}]"
    )
    with pytest.raises(StudyFileError) as error:
        parse_study(text)
    assert problem in str(error.value)


def test_the_same_metric_on_two_devices_needs_their_names():
    with pytest.raises(InvalidValueError, match=r"once for each device, not .*'latency@pi5'"):
        replace(SPEC, objectives=(PI, Objective(metric="latency")),
                measurement=MeasurementPlan(device="pi5"), stopping=StoppingSpec())  # fmt: skip


def test_a_study_without_named_devices_is_recorded_as_before():
    """Older records have no key `device` in an objective."""
    plain = replace(SPEC, objectives=(SPEC.objectives[0], replace(PI, device=None)))
    assert [sorted(each) for each in plain.identity()["objectives"]] == [
        ["direction", "limit", "metric", "reference"]
    ] * 2
    assert StudySpec.from_dict(plain.to_dict()) == plain
    assert StudySpec.from_dict(SPEC.to_dict()) == SPEC
