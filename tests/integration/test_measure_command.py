"""The commands `nas measure` and `nas doctor`."""

import json
import os
import re
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from output_schemas import differences
from safetensors.torch import save_file
from torch import nn

import nas
from nas.agent.host import usable_cores
from nas.cli import main
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import count
from nas.core.errors import CorruptFileError, InvalidValueError, UnknownNameError
from nas.core.measurement import MeasurementPlan, Status
from nas.core.study import Objective, StudySpec
from nas.measuring.methods import hot
from nas.measuring.metrics import seeded_network
from nas.measuring.targets import Target, default_runtime, load_target
from nas.model import build
from nas.model.onnx_file import to_onnx
from nas.record import Store
from nas.testing.sample_records import trial

TINY = Architecture(
    stem_channels=(8, 8, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
)
PLAN = MeasurementPlan()


BROKEN = """
from safetensors.torch import save_file
from torch import nn

class Net(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer, self.weight = answer, nn.Linear(1, 1)
    def forward(self, images):
        return self.answer(images)

def fail(images):
    raise RuntimeError("no such layer")

raising, not_finite, a_text = Net(fail), Net(lambda images: images / 0), Net(str)

def leave():
    raise SystemExit(0)

def wrong():
    raise LookupError("no weights\\nfor this network")

def silent():
    raise AssertionError
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a command in a temporary folder with its own locks. The folder
    holds `tiny.json` and modules of networks that fail.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_networks.py").write_text(BROKEN)
    (tmp_path / "raising_module.py").write_text("1 / 0")
    (tmp_path / "tiny.onnx").touch()
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY.to_dict()))
    (tmp_path / "stem.json").write_text(json.dumps({"stem": 1}))
    (tmp_path / "bundle.json").write_text(json.dumps({"architecture": TINY.to_dict()}))
    return lambda *arguments: CliRunner().invoke(main, arguments)


def document(schema, result):
    """What a command printed, which keeps its schema."""
    printed = json.loads(result.stdout)
    assert not differences(schema, printed)
    return printed


def figures_of(result):
    """The figures that `nas measure --json` printed."""
    return document("measure", result)["figures"]


@pytest.mark.slow
def test_the_tier_hot_keeps_both_figures(run, tmp_path, monkeypatch):
    """One of the device as it is found, and one after a load, which is short here."""
    short = hot.Heating(window_s=0.05, min_s=0.1, max_s=0.2)
    monkeypatch.setattr(hot, "Heating", lambda: short)
    monkeypatch.setenv("COLUMNS", "400")  # the reason of a contended figure is long
    shown = run("measure", "tiny.json", "--size", "32", "--tier", "hot").stdout
    assert "1 thread, hot" in shown
    for row in ("latency, batch 1", "latency, settled under load", "load until settled"):
        assert row in shown
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        first, settled = (measurement for _, measurement in store.singles("tiny.json"))
    assert (first.metric, settled.metric) == ("latency", "hot_latency")
    assert settled.details["first"]["value"] == first.value
    assert settled.details["protocol"] == "hot/1"
    assert settled.details["load"]["seconds"] >= 0.1


@pytest.mark.slow
def test_a_network_is_measured_and_recorded(run, tmp_path):
    """The JSON has four figures, each with its protocol, the host before and after, and the
    requested plan. The record has the same figures. A figure that this machine cannot measure has
    a reason.
    """
    result = run("measure", "tiny.json", "--size", "32", "--batch", "2", "--json")
    figures = {each["metric"]: each for each in figures_of(result)}
    assert set(figures) == {"latency", "energy", "peak_memory", "single_call"}
    assert all(each["value"] is not None or each["reason"] for each in figures.values())
    assert figures["latency"]["plan"]["batch_size"] == 2
    assert figures["single_call"]["plan"]["batch_size"] == 1
    assert figures["peak_memory"]["value"] > 4 * count(TINY, 32, 1000).parameters
    assert figures["latency"]["macs"] == count(TINY, 32, 1000).macs
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        recorded = [measurement for _, measurement in store.singles("tiny.json")]
    assert [(m.metric, m.value) for m in recorded] == [
        (m["metric"], m["value"]) for m in figures.values()
    ]
    assert all({"protocol", "host_before", "host_after"} <= set(m.details) for m in recorded)
    assert result.exit_code == (2 if recorded[0].status is Status.CONTENDED else 0)


@pytest.mark.slow
def test_several_networks_are_interleaved(run, tmp_path):
    """A network with eight times the channels is slower. Each network has all figures, and the
    protocol of the latencies is that of interleaved networks.
    """
    wide = replace(
        TINY,
        stages=tuple(replace(stage, mid_channels=64, out_channels=128) for stage in TINY.stages),
    )
    (tmp_path / "wide.json").write_text(json.dumps(wide.to_dict()))
    result = run("measure", "tiny.json", "wide.json", "--size", "32", "--json")
    figures = figures_of(result)
    latencies = {each["target"]: each for each in figures if each["metric"] == "latency"}
    assert len(figures) == 8
    assert {each["details"]["protocol"] for each in latencies.values()} == {"turns/1"}
    if result.exit_code:
        assert {each["status"] for each in latencies.values()} == {"contended"}
    else:
        assert latencies["wide.json"]["value"] > latencies["tiny.json"]["value"]
        assert len(latencies["tiny.json"]["samples"]) >= 6


@pytest.mark.slow
def test_a_trial_of_a_study_of_detectors_is_no_classifier(run, tmp_path):
    """Figures of a classifier under its name would be compared with those of detectors."""
    study = StudySpec(
        name="squares",
        space="osa_detection",
        evaluator="detector",
        objectives=(Objective(metric="box_ap50"),),
    )
    with Store.open(tmp_path / "nas.db") as store:
        store.create_study(study, dataset="boxes", classes=1)
        store.add_trial("squares", trial(0))
    result = run("measure", "squares:0")
    assert result.exit_code == 2
    assert "which measures no classifiers; measure its front with: nas" in result.output
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        assert store.singles() == []
    with pytest.raises(InvalidValueError, match="measures no classifiers"):
        nas.measure("squares:0", database=tmp_path / "nas.db")


def test_the_table_has_derived_figures(run):
    """It shows percentiles of single calls, throughput and MACs beside the measured figures."""
    result = run("measure", "tiny.json", "--size", "32")
    for expected in (
        "tiny.json",
        "latency, batch 1",
        "energy per frame",
        "peak memory",
        "single calls",
    ):
        assert expected in result.stdout
    assert "p90" in result.stdout or "contended" in result.stdout
    assert ("frames/s" in result.stdout) == (result.exit_code == 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no 'nothing' in targets; there are: "),
        (("missing.json",), "error: missing.json: No such file or directory\n"),
        (("missing.onnx",), "error: missing.onnx: No such file or directory\n"),
        (
            ("stem.json",),
            "error: stem.json: not an architecture: stem_channels and stages missing\n",
        ),
        (("bundle.json",), "error: bundle.json: 'classes' is missing\n"),
        (("list.json",), "error: list.json: not an architecture, which is a JSON object\n"),
        (("deep.json",), "error: deep.json: maximum recursion depth exceeded"),
        (("x" * 5000,), "in targets; there are: "),
        (
            ("tiny.json", "--runtime", "abacus"),
            "no 'abacus' in nas.runtimes; there are: compile, eager, graph",
        ),
        (("tiny.json", "--size", "1"), "tiny.json takes no images of 1 pixels"),
        (("no_such_module:net",), "no 'no_such_module:net' in targets"),
        (("study:7",), "there is no record at"),
        (
            ("tiny.json", "--size", "32", "--precision", "tf32"),
            "precision tf32 is a mode of NVIDIA GPUs",
        ),
        (
            ("tiny.json", "--size", "32", "--batch", "100000000"),
            "a batch 100000000 of 32 pixels in fp32 takes more memory",
        ),
        (
            ("broken_networks:raising", "--size", "32"),
            "the network fails on a batch 1 of 32 pixels in fp32: no such layer",
        ),
        (
            ("broken_networks:not_finite", "--size", "32"),
            "the network returns numbers that are not finite on a batch 1",
        ),
        (("broken_networks:a_text", "--size", "32"), "the network returns a str, not tensors"),
        (("os:system",), "error: os:system cannot be built: TypeError: "),
        (
            ("broken_networks:wrong",),
            "error: broken_networks:wrong cannot be built: LookupError: no weights\n",
        ),
        (("broken_networks:silent",), "cannot be built: AssertionError: no reason given"),
        (("broken_networks:leave",), "broken_networks:leave cannot be built: SystemExit: 0"),
        (("raising_module:net",), "raising_module:net cannot be built: ZeroDivisionError: "),
        (
            ("tiny.onnx", "--size", "32", "--runtime", "compile"),
            "tiny.onnx is an ONNX file: measure it with runtime onnxruntime or openvino, not ",
        ),
        (
            ("tiny.json", "--size", "1", "--tier", "certify"),
            "takes no images of 1 pixels",
        ),
        (
            ("tiny.json", "--size", "32", "--device", "abacus"),
            "no 'abacus' in devices; there are: ",
        ),
    ],
)
def test_a_target_that_cannot_be_measured_is_one_clear_line(run, arguments, message):
    """The causes are unknown names, missing files, wrong conditions and networks that fail."""
    result = run("measure", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        (("measure", "tiny.json", "--size", "99999999999"), "1<=x<=4096"),
        (("measure", "tiny.json", "--size", "99999999999999999999"), "1<=x<=4096"),
        (("show", "tiny.json", "--size", "99999999999999999999"), "1<=x<=4096"),
        (("peers", "VoVNet-27-slim", "--size", "4097"), "1<=x<=4096"),
        (("remeasure", "--size", "4097"), "1<=x<=4096"),
        (("measure", "tiny.json", "--threads", "100000"), "cores, so at most {cores}, not 100000"),
        (("remeasure", "--threads", "100000"), "cores, so at most {cores}, not 100000"),
    ],
)
def test_a_number_that_is_too_large_is_refused_with_the_limit(run, tmp_path, words, limit):
    """It is refused before anything is written. The last line of click's error has the limit."""
    result = run(*words)
    assert result.exit_code == 2
    assert limit.format(cores=usable_cores()) in result.stderr.splitlines()[-1]
    assert not (tmp_path / "nas.db").exists()


def test_a_closed_lock_folder_is_one_clear_line(run, tmp_path, monkeypatch):
    """The line names the variable that moves the folder. The doctor reports the same."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "file" / "locks"))
    assert "set NAS_LOCK_DIR" in run("measure", "tiny.json", "--size", "32").stderr
    findings = document("doctor", run("doctor", "--json"))["checks"]
    lock = next(finding for finding in findings if finding["what"] == "device lock")
    assert not lock["available"]
    assert "set NAS_LOCK_DIR" in lock["detail"]


def test_the_doctor_gives_a_reason_for_everything_unavailable(run):
    """Every finding is available or not, and has a detail or a reason."""
    findings = {
        each["what"]: each for each in document("doctor", run("doctor", "--json"))["checks"]
    }
    assert {
        "host",
        "quiet",
        "device lock",
        "CPU latency",
        "CPU energy",
        "NVML",
        "runtime onnxruntime",
    } <= set(findings)
    assert all(finding["detail"] for finding in findings.values())
    assert findings["NVML"]["available"] or "NVML" in findings["NVML"]["detail"]
    assert ("GPU class" in findings) == torch.cuda.is_available()


def no_trial(_):
    raise AssertionError("no trial was requested")


def test_operations_of_a_foreign_network_are_counted_by_torch():
    """A 3x3 convolution from 3 to 4 channels on 8 by 8 pixels has 3 * 9 * 4 * 64
    multiply-accumulates.
    """
    target = Target(name="net", network=nn.Conv2d(3, 4, 3, padding=1))
    assert target.macs(8) == 3 * 9 * 4 * 64


@pytest.mark.parametrize("change", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_operations_of_a_network_in_another_number_format_are_counted(change):
    """They are as many, and the network that was measured stays as it is."""
    network = change(nn.Conv2d(3, 4, 3, padding=1)).train()
    before = network.weight.dtype
    assert Target(name="net", network=network).macs(8) == 3 * 9 * 4 * 64
    assert (network.weight.dtype, network.training) == (before, True)


def test_operations_of_a_network_that_does_not_run_here_are_unknown():
    """Its own code may take half precision only, or a GPU only."""

    class Net(nn.Conv2d):
        def forward(self, images):
            return super().forward(images.half())

    assert Target(name="net", network=Net(3, 4, 3)).macs(8) is None


def test_models_of_timm_and_torchvision_are_found():
    """They are found by their own names. An unknown name is an error."""
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    assert isinstance(load_target("timm:resnet10t", PLAN, no_trial).network, nn.Module)
    assert isinstance(load_target("torchvision:squeezenet1_1", PLAN, no_trial).network, nn.Module)
    for target in ("timm:nonesuch", "timm:hf-hub:nonesuch\0", "torchvision:nonesuch"):
        with pytest.raises(InvalidValueError, match=f"^{target} cannot be built: "):
            load_target(target, PLAN, no_trial)


@pytest.mark.slow
def test_an_onnx_file_is_measured_by_onnx_runtime(run, tmp_path):
    """It needs no --runtime, since only one can execute it."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "tiny.onnx").write_bytes(to_onnx(seeded_network(TINY, 10, 32), 32))
    result = run("measure", "tiny.onnx", "--size", "32", "--json")
    assert result.stdout, result.stderr
    figures = figures_of(result)
    assert {figure["plan"]["runtime"] for figure in figures} == {"onnxruntime"}


@pytest.fixture
def in_two_files(tmp_path):
    """An ONNX file whose weights lie in `net.onnx.data`, as `torch.onnx.export` writes them.
    `whole.onnx` is the same network in one file.
    """
    onnx = pytest.importorskip("onnx")
    data = to_onnx(seeded_network(TINY, 10, 32), 32)
    (tmp_path / "whole.onnx").write_bytes(data)
    model = onnx.load_model_from_string(data)
    onnx.save(
        model,
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="net.onnx.data",
        size_threshold=0,
    )
    return tmp_path / "net.onnx"


def outputs(data):
    """What ONNX Runtime gives for an image of ones."""
    session = pytest.importorskip("onnxruntime").InferenceSession(data)
    return session.run(None, {"images": torch.ones(1, 3, 32, 32).numpy()})[0].tolist()


def test_an_onnx_file_with_its_weights_in_another_file(in_two_files, monkeypatch):
    """The target is one message with the weights, from any working folder."""
    whole = in_two_files.with_name("whole.onnx").read_bytes()
    assert b"net.onnx.data" in in_two_files.read_bytes()
    target = load_target(str(in_two_files), PLAN, no_trial)
    assert outputs(target.network.data) == outputs(whole)
    monkeypatch.chdir(in_two_files.parent)
    target = load_target("net.onnx", PLAN, no_trial)
    assert outputs(target.network.data) == outputs(whole)
    assert load_target("whole.onnx", PLAN, no_trial).network.data == whole


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (None, "which cannot be read: .*No such file"),
        (7, "which cannot be read: .*length"),
        (2**31, "at most 2,147,483,647 can be measured"),
    ],
    ids=["missing", "truncated", "too large"],
)
def test_weights_beside_an_onnx_file_that_cannot_be_read(run, in_two_files, size, reason):
    """One line names both files."""
    weights = in_two_files.with_name("net.onnx.data")
    if size is None:
        weights.unlink()
    else:
        os.truncate(weights, size)  # a longer file is sparse
    done = run("measure", "net.onnx", "--size", "32")
    assert done.exit_code == 2
    (error,) = done.stderr.splitlines()
    assert re.search(f"^error: net.onnx has its weights in net.onnx.data.*{reason}", error)


@pytest.mark.parametrize(
    ("targets", "runtime"),
    [
        (["vovnet39", "a.json"], "eager"),
        (["a.onnx"], "onnxruntime"),
        (["vovnet39", "folder/a.onnx"], "onnxruntime"),
        (["timm:onnx", "study:1"], "eager"),
    ],
)
def test_the_default_runtime_follows_the_targets(targets, runtime):
    """One ONNX file among them decides, since all targets are measured under one plan."""
    assert default_runtime(targets) == runtime


def test_a_callable_must_give_a_module():
    """`collections:OrderedDict` can be imported, but is no network."""
    with pytest.raises(InvalidValueError, match="gives a OrderedDict, not a torch module"):
        load_target("collections:OrderedDict", PLAN, no_trial)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    """It has no architecture.json, or its weights are corrupt."""
    with pytest.raises(InvalidValueError, match="no folder of nas export"):
        load_target(str(tmp_path), PLAN, no_trial)
    (tmp_path / "architecture.json").write_text(
        json.dumps({"architecture": TINY.to_dict(), "classes": ["a", "b"]})
    )
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        load_target(str(tmp_path), PLAN, no_trial)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda values: values.fill_(torch.inf), "not finite"),
        (lambda values: values.resize_(1), "does not hold the weights of this network"),
    ],
)
def test_a_bundle_with_other_or_diverged_weights_is_refused(tmp_path, change, reason):
    """The message names the file and the tensor."""
    weights = build(TINY, 2).state_dict()
    name = next(iter(weights))
    change(weights[name])
    (tmp_path / "architecture.json").write_text(
        json.dumps({"architecture": TINY.to_dict(), "classes": ["a", "b"]})
    )
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(CorruptFileError, match=reason) as caught:
        load_target(str(tmp_path), PLAN, no_trial)
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    assert name in str(caught.value)


def test_a_trial_is_found_by_its_name():
    """The target has the architecture and the number of classes that the caller finds."""
    target = load_target("study:3", PLAN, lambda text: {"study:3": (TINY, 7)}[text])
    assert (target.architecture, target.num_classes) == (TINY, 7)


def test_an_unknown_target_lists_the_kinds_of_targets():
    """One line lists all kinds."""
    with pytest.raises(UnknownNameError, match=r"timm:NAME, torchvision:NAME"):
        load_target("foo", PLAN, no_trial)
