"""The command `nas remeasure` on a real search, with real measurements on this CPU."""

import json
import sqlite3

import pytest
from click.testing import CliRunner
from output_schemas import differences

from nas.cli import main
from nas.core.measurement import Kind
from nas.core.study import Budget, Objective, StudySpec
from nas.core.trial import TrialState
from nas.record import Store
from nas.testing.sample_records import latency, rung, spec, trial

SPEC = StudySpec(
    name="small",
    space="osa_tiny",
    sampler="random",
    budget=Budget(trials=4),
    objectives=(Objective(metric="error"), Objective(metric="latency")),
)


@pytest.fixture
def nas(tmp_path, monkeypatch, search_study):
    """Return a function that runs a command in a folder with a searched study and its own locks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    search_study(tmp_path, SPEC, "nas.testing.evaluators:ArithmeticEvaluator")
    return lambda *words: CliRunner().invoke(main, words)


@pytest.mark.slow
def test_the_front_is_measured_elsewhere_and_recorded_outside_the_study(nas, tmp_path):
    """With ONNX Runtime instead of PyTorch every member has a figure under its name with the
    requested plan. The output shows Kendall's tau and the members that fall off the front. The
    study itself does not change.
    """
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        before = store.trials("small")
    result = nas("remeasure", "small", "--runtime", "onnxruntime", "--tier", "screen", "--json")
    assert result.exit_code == 0, result.output
    remeasured = json.loads(result.stdout)
    assert not differences("remeasure", remeasured)
    members = [
        trial["trial"]
        for trial in json.loads(nas("front", "small", "--format", "json").stdout)["members"]
    ]
    assert [row["trial"] for row in remeasured["members"]] == members
    assert remeasured["orders"][0]["metric"] == "latency"
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.trials("small") == before
        for number in members:
            ((_, figure),) = store.singles(f"small:{number}")
            assert (figure.metric, figure.kind, figure.plan.runtime) == (
                "latency",
                Kind.MEASURED,
                "onnxruntime",
            )
    there = nas("front", "small", "--device", "cpu", "--json")
    measured = {row["trial"]: row["latency_here"] for row in remeasured["members"]}
    if not any(measured.values()):  # other processes held the cores
        assert "has its figures on cpu: latency is contended" in there.stderr
    else:
        front = json.loads(there.stdout)
        assert not differences("front", front)
        for row in front["members"]:
            assert row["latency@cpu"] == measured[row["trial"]]
        usable = {number for number, value in measured.items() if value is not None}
        assert {row["trial"] for row in front["members"]} | set(front["missing"]) | set(
            map(int, front["fallen"])
        ) == set(members)
        assert set(members) - usable == set(front["missing"])
    table = nas("remeasure", "small", "--tier", "screen", "--threads", "1").stdout
    assert "Kendall's tau with the study's" in table
    assert "fall off" in table


def test_the_members_by_new_seeds_are_measured(tmp_path, monkeypatch):
    """The front is that of `nas front`, which a network may be on only by the mean of its seeds."""
    database = tmp_path / "nas.db"
    with Store.open(database) as store:
        store.create_study(spec(), dataset="none", classes=10)
        for number, error in enumerate((0.3, 0.4)):
            store.add_trial("first", trial(number))
            store.add_measurements("first", number, [latency(0.001 * (1 + number))], 0.1)
            store.add_rung("first", number, rung(metrics={"error": error}))
            store.finish_trial("first", trial(number).moved_to(TrialState.COMPLETE))
        store.add_replicate("first", 1, 7, rung(metrics={"error": 0.0}))
    monkeypatch.setattr(
        "nas.measuring.remeasure.measure_again",
        lambda networks, *_, **__: {name: (latency(),) for name in networks},
    )
    words = ("remeasure", "--device", "cpu", "--json", "--database", str(database))
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    members = {row["trial"] for row in json.loads(result.stdout)["members"]}
    shown = CliRunner().invoke(main, ["front", "--json", "--database", str(database)])
    assert members == {row["trial"] for row in json.loads(shown.stdout)["members"]} == {0, 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("small", "--runtime", "abacus"),
            "no 'abacus' in nas.runtimes; there are: compile, eager, graph, onnxruntime, openvino",
        ),
        (("small", "--precision", "tf32"), "precision tf32 is a mode of NVIDIA GPUs"),
        (("small", "--runtime", "graph"), "runtime graph is a CUDA graph and needs an NVIDIA GPU"),
        (("small", "--device", "abacus"), "no 'abacus' in devices"),
        (("other",), "no 'other' in the studies of "),
    ],
)
def test_wrong_conditions_are_one_clear_line(nas, words, message):
    """Unknown names and conditions that this machine does not have are refused."""
    result = nas("remeasure", *words)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]


def test_without_an_option_the_device_is_that_of_the_study(nas, tmp_path):
    """A study that was measured elsewhere is not measured here under the same name."""
    with sqlite3.connect(tmp_path / "nas.db") as database:
        (text,) = database.execute("SELECT spec FROM study").fetchone()
        spec = json.loads(text)
        spec["measurement"]["device"] = "pi5"
        database.execute("UPDATE study SET spec = ?", [json.dumps(spec)])
    database.close()
    result = nas("remeasure", "small")
    assert result.exit_code == 2
    assert "pi5" in result.stderr
