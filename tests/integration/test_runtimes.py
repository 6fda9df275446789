"""Every runtime of a CPU runs the requested network and no other one, also as one of several in a
session, and gives PyTorch's outputs.
"""

import gc
import itertools
import shutil
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch._dynamo.utils import counters

from nas.agent import worker
from nas.agent.errors import NetworkError
from nas.cli import main
from nas.core import plugins
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import InvalidValueError, TrialFailedError, UnavailableError
from nas.core.measurement import MeasurementPlan, Precision, Status, minor_version
from nas.core.preparation import Preparation
from nas.core.published import PUBLISHED
from nas.core.study import Budget, Objective, StudySpec
from nas.core.tasks import CertifyTask
from nas.measuring.meters.cpu import CpuMeter
from nas.measuring.methods import build as build_network
from nas.measuring.methods import peak_memory, prepare
from nas.measuring.methods.certify import Cycles
from nas.measuring.metrics import Subject
from nas.measuring.metrics.certified import REFERENCE
from nas.measuring.remeasure import measure_again
from nas.measuring.runtimes import (
    OnnxFile,
    deployed_runtime,
    exported,
    runtime_problem,
)
from nas.measuring.runtimes.eager import EagerRuntime
from nas.measuring.runtimes.onnx_runtime import ONNX_RUNTIME
from nas.measuring.session import measure_all
from nas.measuring.targets import Target
from nas.model import build
from nas.model.onnx_file import to_onnx
from nas.record import Store
from nas.searching.evaluators.classification import certifier
from nas.searching.evaluators.contract import StudyContext
from nas.searching.launch import open_search
from nas.testing.fake_meter import FakeMeter

TINY = Architecture(
    stem_channels=(8, 8, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
)
SMALLEST = (OsaStage(mid_channels=8, out_channels=16, num_layers=1),) * 3
METER = FakeMeter()
COUNT = 3
"""Networks in a session. What the first one leaves behind shows with the second and third."""

SHORT = MeasurementPlan(
    runtime="onnxruntime", warmup_s=0.02, block_s=1e-4, min_time_s=0.02, max_time_s=0.1
)
"""A plan that `TickingMeter` satisfies after few calls."""

CYCLES = Cycles(candidate_s=0.05, reference_s=0.05, dropped_s=0.0, min_cycles=2, max_cycles=2)


class TickingMeter(FakeMeter):
    """A clock that each reading moves by a millisecond, so that real networks can be timed without
    waiting.
    """

    def time_s(self):
        """Return the moved clock."""
        self.now_s += 0.001
        return self.now_s


def networks():
    """Return different architectures, by name, that are exported quickly."""
    return {
        f"net-{index}": replace(TINY, stem_channels=(8, 8, 8 + index), stages=SMALLEST)
        for index in range(COUNT)
    }


def measured(meter):
    """Measure the networks as `nas measure A B C` does."""
    targets = [Target(name=name, network=build(each, 10)) for name, each in networks().items()]
    return [
        figure
        for figures in measure_all(targets, SHORT, meter)
        for figure in figures
        if figure.metric in {"latency", "single_call"}
    ]


def remeasured(meter):
    """Measure the networks as `nas remeasure --tier screen` does."""
    found = measure_again(networks(), ["latency"], SHORT, meter, classes=10, certify=False)
    return [figure for figures in found.values() for figure in figures]


def certified_at_the_end(meter, monkeypatch):
    """Certify the networks as a search does with its front."""
    monkeypatch.setattr(certifier, "find_meter", lambda _device: meter)
    monkeypatch.setattr(certifier.Certifier, "cycles", CYCLES)
    monkeypatch.setitem(PUBLISHED, REFERENCE, replace(TINY, stages=SMALLEST))
    spec = StudySpec(
        name="s", space="osa_tiny", objectives=(Objective(metric="latency"),), measurement=SHORT
    )
    context = StudyContext(
        spec=spec,
        preparation=Preparation(data=spec.data, classes=("a", "b"), device={}),
        artifacts="",
        folder="",
    )
    task = CertifyTask(number=0, architectures=tuple(networks().values()))
    return [
        figure
        for event in certifier.Certifier(context).steps(task)
        for figure in event.measurements
    ]


@pytest.fixture(scope="module")
def model():
    """Return a calibrated network of the CIFAR space."""
    return Subject(
        architecture=TINY, plan=MeasurementPlan(), num_classes=10, meter=METER
    ).model.eval()


@pytest.fixture(scope="module")
def onnx(model):
    """Return the same network as an ONNX file."""
    pytest.importorskip("onnxruntime")
    return OnnxFile(data=to_onnx(model, 32), name="net.onnx")


def outputs(network, plan):
    """Return the outputs for all eight inputs, as tensors."""
    with prepare(network, plan, METER) as run:
        found = [run.loaded.tensors(run()) for _ in run.inputs]
        return [each[0] if isinstance(each, list) else each for each in found]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_onnx_runtime_gives_torchs_outputs(model, onnx):
    """This holds for a network that is exported first and for an ONNX file, with batch 2."""
    plan = MeasurementPlan(runtime="onnxruntime", batch_size=2)
    expected = outputs(model, MeasurementPlan(batch_size=2))
    assert_same(outputs(model, plan), expected)
    assert_same(outputs(onnx, plan), expected)


@pytest.mark.slow
@pytest.mark.parametrize("measure", [measured, remeasured, certified_at_the_end])
def test_several_networks_run_on_onnx_runtime_in_one_session(measure, monkeypatch, tmp_path):
    """Each network is exported while those before it are prepared, and has its figures."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path))
    arguments = (monkeypatch,) if measure is certified_at_the_end else ()
    figures = measure(TickingMeter(), *arguments)
    assert len(figures) == COUNT * len({figure.metric for figure in figures})
    assert all(figure.value is not None for figure in figures), figures
    assert {figure.plan.runtime for figure in figures} == {"onnxruntime"}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")
def test_compiled_networks_give_torchs_outputs():
    """Three networks under `torch.compile` with its own C++ code, all prepared at once."""
    models = [build(each, 10).eval() for each in networks().values()]
    with ExitStack() as prepared:
        runs = [
            prepared.enter_context(prepare(model, MeasurementPlan(runtime="compile"), METER))
            for model in models
        ]
        found = [[run() for _ in run.inputs] for run in runs]
    for model, its_outputs in zip(models, found, strict=True):
        assert_same(its_outputs, outputs(model, MeasurementPlan()))


class Small(nn.Module):
    """A network whose class all networks of these tests share."""

    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 1), nn.Flatten())

    def forward(self, images):
        """Return flat features."""
        return self.layers(images)


@pytest.fixture
def graph_runs(monkeypatch):
    """Compile by Dynamo only. Return a list that gets an entry for each run of a graph."""
    runs = []

    def backend(graph, _example):
        def run(*values):
            runs.append(graph)
            return graph.forward(*values)

        return run

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    return runs


def test_each_of_forty_networks_is_compiled(graph_runs):
    """All are prepared before the first is called again, as in a session. Then each call runs the
    network's own graph, none is compiled anew, and no network outlives its session.
    """
    plan = MeasurementPlan(runtime="compile", image_size=8)
    graphs = counters["stats"]["unique_graphs"]
    with ExitStack() as prepared:
        runs = [
            prepared.enter_context(prepare(Small(width), plan, METER)) for width in range(1, 41)
        ]
        assert counters["stats"]["unique_graphs"] - graphs == 40
        for _ in range(2):
            graph_runs.clear()
            assert [run().shape[1] for run in runs] == [64 * width for width in range(1, 41)]
            assert len({id(graph) for graph in graph_runs}) == len(graph_runs) == 40
        assert counters["stats"]["unique_graphs"] - graphs == 40
        runs.clear()
        graph_runs.clear()
    gc.collect()
    assert not any(type(each) is Small for each in gc.get_objects())


class Broken(Small):
    """A network with a part that cannot be compiled."""

    def forward(self, images):
        """Return flat features, scaled by the environment."""
        torch._dynamo.graph_break()
        return super().forward(images)


def test_a_network_that_cannot_be_compiled_whole_is_refused(graph_runs):
    """No part of it runs eagerly under the name of compile."""
    plan = MeasurementPlan(runtime="compile", image_size=8)
    with (
        pytest.raises(TrialFailedError, match="the network fails on a batch 1 of 8 pixels"),
        prepare(Broken(4), plan, METER),
    ):
        pass
    assert graph_runs == []


def test_a_compiler_that_is_switched_off_is_an_error(graph_runs, monkeypatch):
    """With $TORCHDYNAMO_DISABLE torch runs the network eagerly; with $TORCH_COMPILE_DISABLE (read
    when torch is imported) torch 2.14 finds the error itself.
    """
    plan = MeasurementPlan(runtime="compile", image_size=8)
    with (
        torch._dynamo.config.patch(disable=True),
        pytest.raises((UnavailableError, TrialFailedError), match=r"without compiling|no compiled"),
        prepare(Small(4), plan, METER),
    ):
        pass
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    with (
        pytest.raises(UnavailableError, match="without compiling it; unset TORCHDYNAMO_DISABLE"),
        prepare(Small(4), plan, METER),
    ):
        pass
    assert graph_runs == []


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            MeasurementPlan(),
            "net.onnx is an ONNX file: measure it with runtime onnxruntime or openvino, not eager",
        ),
        (
            MeasurementPlan(runtime="onnxruntime", image_size=48),
            r"takes images .*48, 48\]; choose --batch and --size",
        ),
        (MeasurementPlan(runtime="onnxruntime", precision=Precision.FP16), "runs in fp32"),
        (MeasurementPlan(runtime="graph"), "needs an NVIDIA GPU"),
    ],
)
def test_a_plan_that_an_onnx_file_cannot_follow_is_refused_in_one_line(onnx, plan, message):
    """The plans have another runtime, image size or precision than the file."""
    with pytest.raises(InvalidValueError, match=message), prepare(onnx, plan, METER):
        pass


class OnCuda:
    """An input that claims to lie on a GPU."""

    provider = "CUDAExecutionProvider"
    device, shape = torch.device("cuda:0"), torch.Size([4, 3, 24, 32])


def test_onnx_runtime_that_falls_back_to_the_cpu_is_an_error(onnx, monkeypatch):
    """Without CUDA's libraries ONNX Runtime runs on the CPU and only logs it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    real = onnxruntime.InferenceSession

    def fallback(data, options, providers):
        assert providers[0][0] == "CUDAExecutionProvider"
        return real(data, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", fallback)
    with pytest.raises(UnavailableError, match="cannot use its CUDAExecutionProvider here"):
        ONNX_RUNTIME.load(onnx, [OnCuda()], MeasurementPlan(runtime="onnxruntime"))


def on_cuda_here(file, _):
    """Load a file on the CUDA of this machine."""
    with pytest.raises(InvalidValueError, match="refused"):
        ONNX_RUNTIME.load(file, [OnCuda()], MeasurementPlan(runtime="onnxruntime"))


def on_cuda_elsewhere(file, tmp_path):
    """Load a file on the CUDA of an agent."""
    path = tmp_path / "x.onnx"
    path.write_bytes(file.data)
    command = {"path": str(path), "batch": 4, "size": 24, "threads": 1, "provider": OnCuda.provider}
    with pytest.raises(NetworkError, match="refused"):
        worker.load(command)


@pytest.mark.parametrize("load", [on_cuda_here, on_cuda_elsewhere])
def test_no_part_of_a_network_on_cuda_runs_on_the_cpu(onnx, monkeypatch, tmp_path, load):
    """Its sessions refuse operations that CUDA lacks, and no length is free, which would be
    computed on the CPU.
    """
    onnxruntime = pytest.importorskip("onnxruntime")
    entries, lengths = {}, {}

    class Options(onnxruntime.SessionOptions):
        def add_session_config_entry(self, name, value):
            entries[name] = value

        def add_free_dimension_override_by_name(self, name, length):
            lengths[name] = length

    def session(*_, **__):
        if entries.get("session.disable_cpu_ep_fallback") == "1":
            raise RuntimeError("refused")
        return SimpleNamespace(get_providers=lambda: [OnCuda.provider])

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    load(onnx, tmp_path)
    assert (lengths["batch"], lengths["height"]) == (4, 24)


@pytest.mark.parametrize(
    ("kind", "precision", "runtime", "reason"),
    [
        ("cuda", Precision.BF16, "graph", ""),
        ("cpu", Precision.FP32, "onnxruntime", ""),
        ("cpu", Precision.BF16, "eager", "runs in fp32"),
        ("fake", Precision.FP32, "eager", "devices of kind fake"),
    ],
)
def test_the_deployed_runtime_depends_on_device_and_precision(kind, precision, runtime, reason):
    """If it is eager, there is a reason."""
    pytest.importorskip("onnxruntime")
    found, why = deployed_runtime(kind, precision)
    assert found == runtime
    assert reason in why
    assert bool(why) == (runtime == "eager")


def test_without_onnx_runtime_the_deployed_runtime_is_eager(monkeypatch):
    """The reason is the command that installs ONNX Runtime."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    runtime, why = deployed_runtime("cpu", Precision.FP32)
    assert runtime == "eager"
    assert "pip install 'osa-nas[export]'" in why


def searched(folder, **changes):
    """Search two trials with runtime auto, or with these changes of the plan, and return the plans
    of the study and of its latencies.
    """
    plan = replace(SHORT, block_s=1e-3, busy="noisy", busy_wait_s=0.0, runtime="auto")
    spec = StudySpec(
        name="auto",
        space="osa_tiny",
        sampler="random",
        objectives=(Objective(metric="latency"), Objective(metric="parameters")),
        measurement=replace(plan, **changes),
        budget=Budget(trials=2),
    )
    with Store.open(folder / "nas.db") as store:
        with open_search(
            spec,
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=folder,
            artifacts=folder,
        ) as search:
            search.run()
        figures = [trial.evaluation.measurements["latency"] for trial in store.trials("auto")]
        return store.study("auto").spec.measurement.runtime, {each.plan.runtime for each in figures}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["auto", "eager"])
def test_runtime_auto_is_fixed_when_a_study_begins(first, monkeypatch, tmp_path):
    """The record has the runtime that measured. A study that began with another one keeps it when
    its file says auto later.
    """
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr("nas.measuring.meters.cpu.CpuMeter.host_load", lambda _meter: None)
    expected = "onnxruntime" if first == "auto" else "eager"
    assert searched(tmp_path, runtime=first) == (expected, {expected})
    assert searched(tmp_path) == (expected, {expected})


def test_a_damaged_onnx_file_is_refused_with_its_name():
    """ONNX Runtime's error is one line of the message."""
    pytest.importorskip("onnxruntime")
    with (
        pytest.raises(InvalidValueError, match=r"ONNX Runtime cannot load some\.onnx"),
        prepare(
            OnnxFile(data=b"rubbish", name="some.onnx"),
            MeasurementPlan(runtime="onnxruntime"),
            METER,
        ),
    ):
        pass


def test_a_network_that_takes_no_images_fails_in_one_line():
    """The line is torch's about the shape."""
    with (
        pytest.raises(TrialFailedError, match="fails on a batch 1 of 32 pixels"),
        prepare(torch.nn.Linear(7, 2), MeasurementPlan(), METER),
    ):
        pass


def test_peak_memory_is_unavailable_outside_eager(model):
    """PyTorch cannot follow the memory of ONNX Runtime."""
    pytest.importorskip("onnxruntime")
    plan = MeasurementPlan(runtime="onnxruntime")
    with prepare(model, plan, METER) as run:
        found = peak_memory(run, METER, plan)
    assert (found.value, found.status) == (None, Status.UNAVAILABLE)


def test_equal_networks_are_exported_once(monkeypatch):
    """A front that is certified was exported when its members were measured. Other weights, another
    size and other operators are other files.
    """
    sizes = []

    def noted(model, image_size, **versions):
        sizes.append(image_size)
        return to_onnx(model, image_size, **versions)

    monkeypatch.setattr(exported, "to_onnx", noted)
    monkeypatch.setattr(exported, "_FILES", exported._Cache(exported.MAX_CACHED_BYTES))
    first, equal, other = (build(TINY, 10) for _ in range(3))
    equal.load_state_dict(first.state_dict())
    files = [exported.exported(each, 32).data for each in (first, equal, other)]
    exported.exported(first, 16)
    exported.exported(first, 32, opset=18)
    assert sizes == [32, 32, 16, 32]
    assert files[0] == files[1] != files[2]


def test_exported_files_stay_below_a_limit():
    """Those that were not used for the longest time go first."""
    cache = exported._Cache(max_bytes=3)
    for key in "abc":
        cache.add(key, b"x")
    cache.get("a")
    cache.add("d", b"x")
    assert [cache.get(key) for key in "abcd"] == [b"x", None, b"x", b"x"]


def test_openvino_in_bfloat16_under_the_name_of_fp32_is_an_error(onnx, monkeypatch):
    """It is what OpenVINO does by default on a CPU that has bfloat16."""
    openvino = pytest.importorskip("openvino")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")
    compile_model = openvino.Core.compile_model

    def by_default(core, model, device, settings):
        del settings["INFERENCE_PRECISION_HINT"]
        return compile_model(core, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", by_default)
    plan = MeasurementPlan(runtime="openvino")
    with (
        pytest.raises(UnavailableError, match=r"would run net\.onnx in bf16, not f32"),
        prepare(onnx, plan, METER),
    ):
        pass


@pytest.mark.parametrize(
    ("file", "plan", "message"),
    [
        (None, MeasurementPlan(image_size=48), r"takes images .*32,32\], not float images"),
        (b"rubbish", MeasurementPlan(), r"OpenVINO cannot load net\.onnx: "),
        (None, MeasurementPlan(precision=Precision.FP16), "runs in fp32 or bf16, not fp16"),
    ],
)
def test_what_openvino_cannot_run_is_refused_in_one_line(onnx, file, plan, message):
    """The line names the file, and what it takes."""
    pytest.importorskip("openvino")
    network = onnx if file is None else replace(onnx, data=file)
    with (
        pytest.raises(InvalidValueError, match=message) as refused,
        prepare(network, replace(plan, runtime="openvino"), METER),
    ):
        pass
    assert len(str(refused.value).splitlines()) == 1


class Breaking(EagerRuntime):
    """A runtime that fails with any exception, long after its first call."""

    def load(self, built, inputs, plan):
        """Return a network that runs once."""
        calls = iter([0])

        def forward(index):
            if next(calls, None) is None:
                raise LookupError("the queue is gone\nat line 7")
            return inputs[index]

        return replace(super().load(built, inputs, plan), forward=forward)


def test_an_error_of_a_runtime_in_the_middle_of_a_measurement_is_one_line():
    """It fails the network, and has no traceback."""
    plan = MeasurementPlan(image_size=8)
    built = build_network(Small(1), plan, METER, Breaking())
    with (
        prepare(built, plan, METER) as run,
        pytest.raises(TrialFailedError, match=r"LookupError: the queue is gone$"),
    ):
        run()


@pytest.fixture
def small_study(monkeypatch, tmp_path):
    """Return a function that runs a command in a folder, with short measurements, its own locks,
    and a clock that only readings move, whatever else this machine does.
    """
    ticks = itertools.count()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.setattr(CpuMeter, "host_load", lambda _meter: None)
    monkeypatch.setattr(CpuMeter, "time_s", lambda _meter: 0.001 * next(ticks))
    monkeypatch.setattr(CpuMeter, "sleep", lambda _meter, _seconds: None)
    monkeypatch.setattr(certifier.Certifier, "cycles", CYCLES)
    monkeypatch.setitem(PUBLISHED, REFERENCE, replace(TINY, stages=SMALLEST))
    monkeypatch.setattr("nas.cli.measure.PLAN", replace(SHORT, runtime="eager"))

    def nas(*words):
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, result.output
        return result.stdout

    return nas


STUDY = """
name: small
space: osa_tiny
sampler: random
objectives: [{metric: latency}, {metric: parameters}]
measurement:
  {runtime: RUNTIME, warmup_s: 0.02, block_s: 0.0001, min_time_s: 0.02, max_time_s: 0.1}
budget: {trials: 3, certify: true}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "runtime", ["eager", pytest.param("compile", marks=pytest.mark.long), "onnxruntime", "openvino"]
)
def test_a_small_study_from_the_search_to_comparing(small_study, tmp_path, runtime):
    """It is searched, certified at its end, measured, remeasured and compared, all in one runtime,
    and every figure has what really ran.
    """
    if problem := runtime_problem("cpu", MeasurementPlan(runtime=runtime)):
        pytest.skip(problem)
    nas = small_study
    (tmp_path / "study.yaml").write_text(STUDY.replace("RUNTIME", runtime))
    assert f"runtime {runtime} in fp32" in nas("search", "study.yaml")
    names = [f"small:{number}" for number in range(3)]
    nas("measure", *names, "--size", "32", "--runtime", runtime)
    nas("remeasure", "small", "--tier", "screen")
    assert "latency" in nas("compare", *names[:2])
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        trials = store.trials("small")
        searched = [trial.evaluation.measurements["latency"] for trial in trials]
        certified = [
            figure
            for trial in trials
            for name, figure in trial.evaluation.measurements.items()
            if name == "certified_latency"
        ]
        singles = [figure for name in names for _, figure in store.singles(name)]
    later = [figure for figure in singles if figure.metric == "latency"]
    assert len(searched) == 3
    assert certified
    assert len(later) >= 3 + len(certified)
    for figure in (*searched, *certified, *later):
        assert figure.value is not None, figure.reason
        facts = figure.details["runtime"]
        assert (facts["name"], facts["precision"], facts["threads"]) == (runtime, "fp32", 1)
        version = f"{facts['package']} {minor_version(facts['version'])}"
        assert version in figure.device.device_class
