"""Costs of the networks of a space before it is searched."""

import itertools
import json
import math
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from output_schemas import differences

from nas.analysis.rank_agreement import Interval
from nas.cli import main
from nas.cli.check import _forecast_lines, show_check
from nas.core.complexity import count
from nas.core.errors import InvalidValueError, UnavailableError
from nas.core.measurement import Measurement, Status
from nas.core.published import PUBLISHED
from nas.core.study import (
    AutoPrecision,
    Budget,
    DataSpec,
    Objective,
    StudySpec,
    TrainingSpec,
    WorkersSpec,
    rungs_at,
)
from nas.core.tasks import Measured, Task
from nas.core.trial import Evaluation
from nas.data import Dataset, Images
from nas.measuring.meters.cpu import CpuMeter
from nas.measuring.meters.lock import DeviceLock
from nas.measuring.methods.timing import HELD
from nas.measuring.metrics.measured import LATENCY
from nas.searching.evaluators import StudyContext
from nas.searching.evaluators.classification import evaluator as evaluator_module
from nas.searching.evaluators.classification.evaluator import (
    Deadline,
    EnergyCounter,
    Evaluator,
    energy_problem,
)
from nas.searching.evaluators.classification.full import FullEvaluator
from nas.searching.forecast import Forecast, _memory, forecast, private_bytes
from nas.searching.profile import (
    NUM_MEASURED_NETWORKS,
    check_sizes,
    costs_only,
    members,
    profile,
    random_members,
    reduced_side,
)
from nas.testing.fake_meter import FakeMeter
from search_spaces.osa_detection import SPACE as DETECTION
from search_spaces.osa_tiny import SPACE as TINY

SPEC = StudySpec(
    name="s",
    space="osa_tiny",
    objectives=(
        Objective(metric="error"),
        Objective(metric="macs", limit=1_500_000),
        Objective(metric="parameters"),
    ),
)
TRAINED = "  - {metric: error}\n"
STUDY = """
name: dry
space: osa_tiny
objectives:
  - {metric: error}
  - {metric: macs, limit: 1.5 M}
rungs: [{images: 128}]
data: {dataset: digits, validation_images: 100}
training: {precision: fp32, channels_last: false}
"""


def test_members_are_different_random_networks_and_the_published_ones():
    """They are the same for the same seed. A small space gives all its networks. Published
    networks have one name each.
    """
    networks = members(DETECTION, 64, 3)
    drawn = [member for member in networks if not member.name]
    published = [member for member in networks if member.name]
    assert len({m.architecture.digest for m in drawn}) == 64
    again = members(DETECTION, 64, 3)
    assert [m.architecture for m in again] == [m.architecture for m in networks]
    assert {"vovnet39", "vovnet_v2_19_slim"} <= {m.name for m in published}
    assert all(PUBLISHED[m.name].digest == m.architecture.digest for m in published)
    assert len({m.architecture.digest for m in published}) == len(published)
    few = members(TINY, 1000, 0)
    assert len({m.architecture.digest for m in few}) == len(few) <= TINY.cardinality


@pytest.mark.parametrize("error", [NotImplementedError("no"), KeyError("stem"), IndexError()])
def test_a_space_that_cannot_encode_other_networks_has_no_published_ones(error):
    """Reduced images are found for it too."""

    class Bare(type(TINY)):
        def encode(self, architecture):
            raise error

    space = Bare(**{each.name: getattr(TINY, each.name) for each in fields(TINY)})
    assert members(space, 8, 0) == random_members(TINY, 8, 0)
    assert reduced_side(space, 32) == reduced_side(TINY, 32)


def test_a_space_that_cannot_decode_its_own_params_is_one_line():
    """With the params and the error."""

    class Broken:
        choices = TINY.choices

        def decode(self, params):
            raise KeyError("stage9")

    line = r"the space cannot decode its own params \{.*\}: KeyError: 'stage9'"
    with pytest.raises(InvalidValueError, match=line):
        check_sizes(Broken(), {"rungs": 32}, 0)


def test_costs_are_compared_with_the_limits(tmp_path):
    """MACs are counted a second way. The violation is the share by which a network is too large."""
    costed = list(profile(SPEC, members(TINY, 8, 0), tmp_path))
    assert len(costed) == 8
    for member in costed:
        macs = count(member.architecture, 32, 10).macs
        assert member.evaluation.value("macs") == macs
        assert member.evaluation.rungs == ()
        assert member.violation(costs_only(SPEC).objectives) == pytest.approx(
            max(macs / 1_500_000 - 1, 0)
        )


def test_a_check_prints_shares_and_writes_nothing(tmp_path, monkeypatch):
    """Minimum, median and share of the limit are those of the members."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY.replace(TRAINED, ""))
    result = CliRunner().invoke(main, ["check", "study.yaml"])
    assert result.exit_code == 0, result.output
    drawn = [m for m in members(TINY, 64, 0) if not m.name]
    macs = np.array([count(m.architecture, 32, 10).macs for m in drawn])
    within = int((macs <= 1_500_000).sum())
    assert f"{within} of {len(drawn)} are within all limits of costs" in result.output
    (row,) = [
        line.split() for line in result.output.splitlines() if line.strip().startswith("macs")
    ]
    assert row[1] == f"{macs.min() / 1e6:.3g}" or row[1] == f"{macs.min() / 1e3:.3g}"
    assert row[-1] == f"{within / len(drawn):.0%}"
    assert "none of the published VoVNets" in result.output
    assert "certifying" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ("first: ['earlier:1']", "there is no record at"),
        ("first: [vovnet39]", "first[0]: vovnet39 is not in the space osa_tiny"),
        ("baselines: ['timm:resnet_none']", "baselines: timm:resnet_none cannot be built"),
    ],
)
def test_a_check_finds_the_networks_that_a_study_names(tmp_path, monkeypatch, names, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(f"{STUDY.replace(TRAINED, '')}\n{names}\n")
    result = CliRunner().invoke(main, ["check", "study.yaml", "--database", "none.db"])
    assert result.exit_code == 2
    assert error in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_check_on_a_busy_machine_says_once_why_it_waits(tmp_path, monkeypatch):
    """The first latency of every network is contended, and the second one is accepted."""
    figures = []

    def measure(_subject):
        status = Status.OK if len(figures) % 2 else Status.CONTENDED
        figures.append(
            Measurement(
                metric="latency",
                unit="s",
                value=1e-3 if status is Status.OK else None,
                method="synthetic",
                status=status,
                reason="2 of 20 blocks were accepted",
            )
        )
        return figures[-1]

    monkeypatch.setattr("nas.measuring.metrics.measured.LATENCY", replace(LATENCY, measure=measure))
    monkeypatch.setattr(
        "nas.searching.evaluators.classification.evaluator.RETRY_PAUSES_S", (0.0, 0.0)
    )
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "study.yaml").write_text(
        STUDY.replace(TRAINED, "").replace("macs, limit: 1.5 M", "latency, limit: 2 ms")
    )
    result = CliRunner().invoke(main, ["check", str(tmp_path / "study.yaml")])
    assert result.exit_code == 0, result.output
    drawn = len(members(TINY, NUM_MEASURED_NETWORKS, 0))
    assert len(figures) == 2 * drawn
    assert f"{drawn} of {drawn} are within all limits" in result.stdout
    assert "certifying the front comes after it" in result.stdout
    first, *others = result.stderr.splitlines()
    (line,) = [line for line in others if "waiting" in line]
    assert first == (
        f"measuring the costs of {drawn} networks: at most 10 min 00 s, with up to 40 s of waiting "
        "if others use the device"
    )
    assert line.startswith(
        "waiting for others on this device: latency is contended, 2 of 20 blocks were accepted; "
    )


@pytest.fixture
def pauses(monkeypatch, tmp_path):
    """The pauses, in seconds, on a device that is never quiet. An attempt takes a second."""
    made, now = [], [0.0]

    def sleep(seconds):
        made.append(seconds)
        now[0] += seconds

    def measure(_subject):
        now[0] += 1.0
        return Measurement(
            metric="latency",
            unit="s",
            value=None,
            method="synthetic",
            status=Status.CONTENDED,
            reason="2 of 20 blocks were accepted",
            details={HELD: [0.001] * 20},
        )

    def clock():
        return now[0]

    module = "nas.searching.evaluators.classification.evaluator.time"
    monkeypatch.setattr(module, SimpleNamespace(sleep=sleep, perf_counter=clock, monotonic=clock))
    monkeypatch.setattr("nas.measuring.metrics.measured.LATENCY", replace(LATENCY, measure=measure))
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    return made


LATENCY_STUDY = "name: s\nspace: osa_tiny\nobjectives: [{metric: latency}]\n"
LATENCY_SPEC = replace(SPEC, objectives=(Objective(metric="latency"),))


def test_networks_of_a_check_wait_once_for_a_busy_device(pauses, tmp_path):
    """The first one waits for the 40 s of all, the others do not. All figures are noisy."""
    costed = list(profile(LATENCY_SPEC, members(TINY, 4, 0), tmp_path))
    assert sum(pauses) == 40
    figures = [member.evaluation.measurements["latency"] for member in costed]
    assert {(figure.status, figure.value) for figure in figures} == {(Status.NOISY, 0.001)}


@pytest.mark.usefixtures("pauses")
def test_a_check_marks_noisy_figures_shows_progress_and_ends(tmp_path, capsys):
    """By this clock a network takes 100 s: the sixth one is the last within ten minutes."""
    clock = itertools.count(0.0, 100.0)
    (tmp_path / "study.yaml").write_text(LATENCY_STUDY)
    show_check(tmp_path / "study.yaml", "none.db", clock=lambda: next(clock))
    shown = capsys.readouterr()
    assert "128 networks; 6 random ones" in shown.out
    assert f"{NUM_MEASURED_NETWORKS - 6} of {NUM_MEASURED_NETWORKS} networks" in shown.out
    assert "latency, 6 of 6 noisy" in shown.out
    assert "5 of" in shown.err
    assert "left" in shown.err


def test_attempts_that_give_no_figure_are_waiting(pauses, tmp_path):
    """They use no device time and no energy of the budgets."""
    context = StudyContext(spec=LATENCY_SPEC, artifacts="", folder=str(tmp_path))
    evaluator = Evaluator(replace(context, preparation=Evaluator.prepare(context)))
    (network,) = members(TINY, 1, 0)
    task = Task(number=0, architecture=network.architecture, seed=0)
    events = [event for event in evaluator.steps(task) if event.measurements[0].value is None]
    assert [event.seconds for event in events] == [0.0]
    assert [event.waiting_s for event in events] == [sum(pauses) + len(pauses) + 1]


def test_settings_that_fail_every_training_are_refused(monkeypatch):
    """Refused are a shift of 8 pixels for images of 8 pixels, and a rung without a whole batch. A
    batch larger than the data gives a warning.
    """
    images = Images(torch.randint(256, (1437, 3, 8, 8), dtype=torch.uint8), torch.arange(1437) % 10)
    dataset = Dataset(
        name="small",
        classes=tuple("0123456789"),
        train=images,
        mean=(0.5,) * 3,
        std=(0.3,) * 3,
        read_test=lambda: images,
    )
    monkeypatch.setattr("nas.searching.evaluators.classification.evaluator.load", lambda _: dataset)
    spec = replace(
        SPEC,
        data=DataSpec(dataset="digits", validation_images=1400),
        training=TrainingSpec(precision=AutoPrecision.FP32, channels_last=False),
    )

    def prepared(spec):
        return Evaluator.prepare(StudyContext(spec=spec, artifacts="", folder=""))

    assert prepared(spec).warnings == (
        "there are only 37 images to train on: they are one batch, instead of 64",
    )
    with pytest.raises(
        InvalidValueError, match=r"training.translate must be less than the 8 pixels of the images"
    ):
        prepared(replace(spec, training=replace(spec.training, translate=8)))
    with pytest.raises(
        InvalidValueError, match=r"no whole batch of 37 images between 1.0 and 1.25 epochs of 37"
    ):
        prepared(replace(spec, rungs=rungs_at(1, 1.25)))


def test_energy_is_counted_if_one_worker_has_the_device():
    """50 W for 2 s are 100 J. Nothing is counted if several workers share a device, or without a
    counter.
    """
    meter = FakeMeter(power_w=50.0, step_s=0.1)
    counter = EnergyCounter(meter, SPEC)
    meter.work(2.0)
    assert counter.drawn_j() == pytest.approx(100.0)
    shared = replace(SPEC, workers=WorkersSpec(kind="tune", count=2))
    assert EnergyCounter(meter, shared).drawn_j() is None
    one_each = replace(SPEC, workers=WorkersSpec(kind="tune", count=2, gpus=1))
    assert EnergyCounter(meter, one_each).drawn_j() == 0.0
    assert "no energy counter" in (energy_problem(FakeMeter(), SPEC) or "")


def test_a_counter_that_wraps_several_times_in_a_rung_loses_nothing(tmp_path, monkeypatch):
    """It has a range of 10 J. It is read between training steps, and 8 J are drawn in each of
    five.
    """
    monkeypatch.setattr(evaluator_module, "READING_INTERVAL_S", -1.0)
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("10000000")
    (zone / "energy_uj").write_text("0")
    evaluator = FullEvaluator.__new__(FullEvaluator)
    evaluator._meter, evaluator._spec = CpuMeter(tmp_path), SPEC
    evaluator._counter = EnergyCounter(evaluator._meter, SPEC)
    evaluator._lock = DeviceLock("cpu-of-this-test", tmp_path / "lock")
    evaluator._deadline = Deadline(math.inf)
    trainer = SimpleNamespace(energy_j=0.0, world=1)
    with evaluator._shared(trainer):
        for step in range(1, 6):
            (zone / "energy_uj").write_text(str(step * 8_000_000 % 10_000_000))
            trainer.step_aside()
    assert trainer.energy_j == pytest.approx(40.0)


def test_a_budget_of_energy_is_refused_without_a_counter(monkeypatch):
    """It is refused before the study begins."""
    module = "nas.searching.evaluators.classification.evaluator"
    monkeypatch.setattr(f"{module}.find_meter", lambda *_: FakeMeter())
    spec = replace(costs_only(SPEC), budget=Budget(energy_j=5.0))
    with pytest.raises(
        UnavailableError, match=r"budget.energy_j: the fake meter has no energy counter"
    ):
        Evaluator.prepare(StudyContext(spec=spec, artifacts="", folder=""))


def test_a_check_forecasts_time_and_memory(tmp_path, monkeypatch):
    """Intervals are no wider than half of their values."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nas.searching.forecast.TIMED_S", 0.0)
    (tmp_path / "study.yaml").write_text(STUDY.replace("128", "128, image_size: auto"))
    facts = json.loads(CliRunner().invoke(main, ["check", "study.yaml", "--json"]).stdout)
    assert not differences("check", facts)
    forecast = facts["forecast"]
    assert forecast["limit"] == "trials"
    for name in ("searching_s", "memory_bytes"):
        value, low, high = (forecast[name][key] for key in ("value", "low", "high"))
        assert low < value < high
        assert high - low <= value / 2
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_without_the_file_of_its_memory_a_check_leaves_the_line_out(monkeypatch, tmp_path):
    """As on macOS."""
    spec = StudySpec(name="s", space="osa_tiny", objectives=(Objective(metric="macs"),))
    interval = Interval.around(60.0, 0.1)
    known = Forecast(
        searching_s=interval,
        networks=interval,
        limit="trials",
        memory_bytes=interval,
        baselines_s=0.0,
        new_seeds_s=0.0,
    )
    monkeypatch.setattr("nas.searching.forecast.MEMORY_FILE", tmp_path / "smaps_rollup")
    assert private_bytes() is None
    assert _memory(spec, private_bytes()) is None
    with_memory = list(_forecast_lines(spec, known))
    without = list(_forecast_lines(spec, replace(known, memory_bytes=None)))
    assert [line for line in with_memory if not line.startswith("memory: ")] == without
    assert len(without) == len(with_memory) - 1


def test_a_budget_of_time_ends_a_search_in_time():
    """A network takes 2 s of measuring and 4 s of training, and two workers train at once."""
    evaluator = SimpleNamespace(training_s=lambda _architecture, _min_s: 4.0, training_epochs=0.5)
    evaluation = Evaluation(
        measurements={"macs": Measurement.counted("macs", "1", 1e6)}, measure_s=2.0
    )
    sampled = [replace(member, evaluation=evaluation) for member in members(TINY, 8, 0)]
    workers = WorkersSpec(kind="tune", count=2)
    for budget, limit, seconds, networks in (
        (Budget(trials=10, fresh=0), "trials", 40.0, 10),
        (Budget(trials=100, wall_time_s=60.0, fresh=0), "wall_time_s", 60.0, 15),
        (Budget(trials=100, device_s=60.0, fresh=0), "device_s", 40.0, 10),
        (Budget(trials=100, epochs=4.0, fresh=0), "epochs", 32.0, 8),
    ):
        spec = replace(SPEC, budget=budget, workers=workers)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nas.searching.forecast.usable_cores", lambda: 2)
            expected = forecast(spec, evaluator, sampled, private_bytes(), {})
        assert expected.limit == limit
        assert expected.searching_s.value == pytest.approx(seconds)
        assert expected.networks.value == pytest.approx(networks)
        assert expected.searching_s.high <= (budget.wall_time_s or 1.3 * seconds)


HALF = (Objective(metric="error"), Objective(metric="latency", limit=0.5))
"""Objectives whose limit every second sampled network keeps."""
ELSEWHERE = (Objective(metric="error"), Objective(metric="latency", device="pi5"))


@pytest.mark.parametrize(
    ("changes", "seconds", "networks", "baselines_s", "new_seeds_s"),
    [
        ({}, 40.0, 10, 0.0, 0.0),  # 2 s alone, and a half of 4 s
        ({"objectives": HALF}, 60.0, 10, 0.0, 0.0),  # two are measured for each that is trained
        ({"objectives": ELSEWHERE}, 20.0, 10, 0.0, 0.0),  # measured while others train
        ({"baselines": ("first", "second")}, 40.0, 10, 8.0, 0.0),
        ({"budget": Budget(trials=10, fresh=0.2)}, 32.0, 8, 0.0, 4.0),  # two trainings by two
        ({"budget": Budget(trials=9, proposals=9), "objectives": HALF}, 27.0, 4.5, 0.0, 0.0),
    ],
)
def test_a_forecast_has_all_that_is_known(changes, seconds, networks, baselines_s, new_seeds_s):
    """A network takes 2 s of measuring and 4 s of training, and two workers train at once."""

    def member(number, each):
        counted = Measurement.counted("macs", "1", 1e6)
        latency = Measurement(metric="latency", unit="s", value=number % 2, method="clock")
        figures = {"macs": counted, "latency": latency}
        return replace(each, evaluation=Evaluation(measurements=figures, measure_s=2.0))

    counts = Measured(measurements=(Measurement.counted("macs", "1", 1e6),), seconds=0.0)
    evaluator = SimpleNamespace(
        training_s=lambda _architecture, _min_s: 4.0, steps=lambda _task: iter([counts])
    )
    sampled = [member(number, each) for number, each in enumerate(members(TINY, 8, 0)[:8])]
    values = {"budget": Budget(trials=10, fresh=0), **changes}
    spec = replace(SPEC, workers=WorkersSpec(kind="tune", count=2), **values)
    baselines = dict.fromkeys(spec.baselines, sampled[0].architecture)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.searching.forecast.usable_cores", lambda: 2)
        expected = forecast(spec, evaluator, sampled, private_bytes(), baselines)
    assert expected.searching_s.value == pytest.approx(seconds)
    assert expected.networks.value == pytest.approx(networks)
    assert expected.baselines_s == pytest.approx(baselines_s)
    assert expected.new_seeds_s == pytest.approx(new_seeds_s)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("space: osa_tiny", "study.yaml: space"),
        ("validation_images: 100", "validation_images"),
        ("name: dry", "name"),
    ],
)
def test_a_check_refuses_what_a_search_refuses(tmp_path, change, line):
    """One line says what is wrong, before anything is measured."""
    wrong = {"name: dry": "name: --dry", "space: osa_tiny": "space: osa_tine"}
    text = STUDY.replace(change, wrong.get(change, "validation_images: 100000"))
    (tmp_path / "study.yaml").write_text(text)
    result = CliRunner().invoke(main, ["check", str(tmp_path / "study.yaml")])
    assert result.exit_code == 2
    assert line in result.stderr
    assert result.stdout == ""
