"""Current work as `nas status` shows it, from a real record, a real claim and the locks of real
processes.
"""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.measurement import MeasurementPlan, Status
from nas.core.study import Budget, Objective, StudySpec, rungs_at
from nas.core.trial import TrialState, Usage
from nas.measuring.meters.lock import DeviceLock
from nas.record import Store
from nas.report.at_work import activity, at_work, overlap_line
from nas.searching.launch import open_search
from nas.testing.sample_records import DEVICE, latency, rung, spec, trial
from workers.local import LocalWorkers

HOST = socket.gethostname()
HOLDER = """
import sys
from nas.measuring.meters.lock import DeviceLock
lock = DeviceLock(sys.argv[1])
with (lock.exclusive() if sys.argv[2] == "measure" else lock.training()):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def database(tmp_path, monkeypatch):
    """A record with one study and two running trials, and its own folder of locks."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    with Store.open(tmp_path / "nas.db") as store:
        store.create_study(spec(), dataset="digits", classes=10)
        for number in range(2):
            store.add_trial("first", trial(number))
    return tmp_path / "nas.db"


@contextmanager
def holding(what, prefix=""):
    """Run another process that holds the device, or the lock whose name has this prefix."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, prefix + DEVICE.identity, what],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == "in\n"
        yield child
        child.stdin.close()


def status(database, *arguments):
    """Return the lines that the command prints."""
    done = CliRunner().invoke(
        main, ["status", *arguments, "--database", str(database)], catch_exceptions=False
    )
    return done.output.splitlines()


def test_the_table_of_studies_has_complete_names_at_any_width(database, monkeypatch):
    """There are trials in four states. Beside a long name each study is a list of its cells."""
    name = "-".join(["a-name-that-is-long"] * 3)
    with Store.open(database) as store:
        store.create_study(spec(name), dataset="digits", classes=10)
        for number, state in enumerate(
            (TrialState.COMPLETE, TrialState.STOPPED, TrialState.FAILED), start=2
        ):
            store.add_trial("first", trial(number))
            store.finish_trial("first", trial(number, state=state, finished_at=datetime.now(UTC)))
    for columns in ("80", "72"):
        monkeypatch.setenv("COLUMNS", columns)
        shown = status(database)
        assert "study first" in shown
        assert f"study {name}" in shown


def test_status_shows_driver_and_worker_while_a_search_runs(tmp_path):
    """Both are this process, since the worker is local. Afterwards no search is running."""
    study = StudySpec(
        name="s",
        space="osa_tiny",
        sampler="random",
        rungs=rungs_at(1, 2),
        budget=Budget(trials=2),
        objectives=(Objective(metric="error"), Objective(metric="latency")),
    )
    seen = []

    def look(_):
        with Store.open(tmp_path / "nas.db", read_only=True) as reading:
            found = at_work(reading, reading.study("s"), reading.summary("s").running)
        seen.extend((found.driver, each.worker, each.trial, each.doing) for each in found.works)

    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            study,
            store=store,
            workers=LocalWorkers(),
            folder=tmp_path,
            artifacts=tmp_path,
            listener=look,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as found,
    ):
        found.run()
    driver, me = f"process {os.getpid()} on {HOST}", f"{HOST}:{os.getpid()}"
    assert seen == [
        (driver, worker, number, doing)
        for number in range(2)
        for worker, doing in (
            ("", "counting"),
            (me, "counting"),
            (me, "training to 1 epochs (rung 1 of 2)"),
            (me, "training to 2 epochs (rung 2 of 2)"),
        )
    ]
    assert "no search is running" in status(tmp_path / "nas.db", "s")


def test_unfinished_trials_are_not_shown_as_current_work(database):
    """A driver that has ended left two running trials in the record."""
    assert "no search is running; nas search resumes the unfinished trials" in status(
        database, "first"
    )
    assert not [line for line in status(database) if "at work" in line]
    with Store.open(database) as store, store.claim("first"):
        assert f"at work: process {os.getpid()} on {HOST}, 2 of 1 workers busy" in status(database)


def test_the_holder_of_the_device_is_named(database):
    """A worker is named with its trial and another process with its program; the device may be
    free. The last figure is shown too.
    """
    with Store.open(database) as store, holding("measure") as child:
        store.add_measurements("first", 0, [latency()], 0.5)
        stranger = f"device: Two cores, being measured by process {child.pid} ("
        assert [line for line in status(database, "first") if line.startswith(stranger)]
        store.finish_trial("first", trial(1, worker=f"{HOST}:{child.pid}"))
        lines = status(database, "first")
        assert f"device: Two cores, being measured by {HOST}:{child.pid} (trial 1)" in lines
        (line,) = [line for line in lines if line.startswith("  trial 1: counting, ")]
        assert line.endswith(f" s, {HOST}:{child.pid}")
        assert any(line.startswith("last figure: latency of trial 0, ok, ") for line in lines)
    assert "device: Two cores, free" in status(database, "first")
    with holding("train") as child:
        shared = f"device: Two cores, shared by process {child.pid} ("
        assert [line for line in status(database, "first") if line.startswith(shared)]


def test_the_use_of_another_machine_s_device_is_unknown(database):
    """Its last figure is in the record."""
    hot = replace(
        latency(),
        value=None,
        ci_low=None,
        ci_high=None,
        samples=(),
        status=Status.THROTTLED,
        reason="too hot",
    )
    with Store.open(database) as store:
        store.add_measurements("first", 0, [hot], 0.5)
    assert DeviceLock(DEVICE.identity).holders() is None
    lines = status(database, "first")
    assert "device: Two cores, whose use is unknown on this machine" in lines
    assert any(
        line.startswith("last figure: latency of trial 0, throttled (too hot), ") for line in lines
    )


def test_a_device_elsewhere_is_not_asked(database):
    """What this machine does with it is known. The lock of this machine's own processor, under the
    same identity, is another one.
    """
    objectives = (
        Objective(metric="error"),
        Objective(metric="latency", device="pi5"),
        Objective(metric="latency"),
    )
    with Store.open(database) as store:
        study = replace(spec("second"), objectives=objectives)
        store.create_study(study, dataset="digits", classes=10)
        here = {"name": "Xeon", "identity": "cpu-here"}
        pi5 = {"name": "Pi 5", "identity": DEVICE.identity}
        store.set_numerics("second", {"device": {**here, "others": {"pi5": pi5}}})
        store.add_trial("second", trial(0))
        elsewhere = replace(DEVICE, details={"device": "pi5"})
        figure = replace(latency(metric="latency@pi5"), device=elsewhere)
        store.add_measurements("second", 0, [figure], 0.5)
    idle = "device pi5: not in use from this machine; nas doctor --device pi5 asks it"
    with holding("measure"):
        lines = status(database, "second")
        assert idle in lines
        assert "device: Xeon, whose use is unknown on this machine" in lines
    with holding("measure", "agent-") as child:
        busy = f"device pi5: being measured by process {child.pid} ("
        assert [line for line in status(database, "second") if line.startswith(busy)]


@pytest.mark.parametrize(
    ("measuring_s", "training_s", "waits"),
    [
        (31.0, 97.0, "31 % of the time, workers trained in 97 %: it waits for trainings"),
        (95.0, 40.0, "95 % of the time, workers trained in 40 %: trainings wait for it"),
        (25.0, 24.0, "25 % of the time, workers trained in 24 %: neither limits the search"),
    ],
)
def test_measuring_and_training_wait_for_the_slower_one(database, measuring_s, training_s, waits):
    """Nobody waits for a part that works a quarter of the time."""
    study = spec(measurement=MeasurementPlan(device="pi5"))
    with Store.open(database, read_only=True) as store:
        summary = store.summary("first")
    spent = Usage(measuring_s=measuring_s, training_s=training_s)
    line = overlap_line(study, replace(summary, searched_s=100.0, spent=spent))
    assert line == f"pi5 measured in {waits}"


def test_the_step_of_a_trial_follows_from_its_figures():
    """A trial is counted, then measured, then trained to its rungs."""
    started, study = trial(0), spec(rungs=rungs_at(0.5, 2))
    known = started.evaluation
    macs = latency(metric="macs")
    steps = [known, known.with_measurements([macs]), known.with_measurements([macs, latency()])]
    steps.append(steps[-1].with_rung(rung(0.5)))
    assert [activity(trial(0, evaluation=step), study) for step in steps] == [
        "counting",
        "measuring latency",
        "training to 0.5 epochs (rung 1 of 2)",
        "training to 2 epochs (rung 2 of 2)",
    ]
