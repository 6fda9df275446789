"""`nas measure` and `nas doctor` as a user types them."""

import json
import os
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from nas.cli import main
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.complexity import count
from nas.core.errors import CorruptFileError, InvalidValueError, UnknownNameError
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.targets import Target, load_target
from nas.record import Store

TINY = Architecture(
    stem_channels=(8, 8, 8),
    stem=Stem.CIFAR,
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 3,
)
PLAN = MeasurementPlan()


BROKEN = """
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
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Types a command in a folder of its own, with its own locks; `tiny.json` is there, and
    networks that fail.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_networks.py").write_text(BROKEN)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "tiny.json").write_text(json.dumps(TINY.to_dict()))
    (tmp_path / "stem.json").write_text(json.dumps({"stem": 1}))
    (tmp_path / "bundle.json").write_text(json.dumps({"architecture": TINY.to_dict()}))
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.mark.slow
def test_a_network_is_measured_and_kept(run, tmp_path):
    """Four figures in JSON, each with its protocol, the host before and after and the plan asked
    for; the same are in the record. What the machine cannot measure has a reason.
    """
    told = run("measure", "tiny.json", "--size", "32", "--batch", "2", "--json")
    figures = {each["metric"]: each for each in json.loads(told.stdout)}
    assert set(figures) == {"latency", "energy", "peak_memory", "single_call"}
    assert all(each["value"] is not None or each["reason"] for each in figures.values())
    assert figures["latency"]["plan"]["batch_size"] == 2
    assert figures["single_call"]["plan"]["batch_size"] == 1
    assert figures["peak_memory"]["value"] > 4 * count(TINY, 32, 1000).parameters
    assert figures["latency"]["macs"] == count(TINY, 32, 1000).macs
    with Store.open(tmp_path / "nas.db", read_only=True) as store:
        kept = store.singles("tiny.json")
    assert [(m.metric, m.value) for _, m in kept] == [
        (m["metric"], m["value"]) for m in figures.values()
    ]
    assert all({"protocol", "host_before", "host_after"} <= set(m.details) for _, m in kept)
    assert told.exit_code == (2 if kept[0][1].status is Status.CONTENDED else 0)


@pytest.mark.slow
def test_several_networks_are_timed_in_turns(run, tmp_path):
    """A network with four times the channels is the slower one; each has all figures, and the
    latencies say that they were taken in turns.
    """
    wide = replace(
        TINY,
        stages=tuple(replace(stage, mid_channels=64, out_channels=128) for stage in TINY.stages),
    )
    (tmp_path / "wide.json").write_text(json.dumps(wide.to_dict()))
    told = run("measure", "tiny.json", "wide.json", "--size", "32", "--json")
    figures = json.loads(told.stdout)
    latencies = {each["target"]: each for each in figures if each["metric"] == "latency"}
    assert len(figures) == 8
    assert {each["details"]["protocol"] for each in latencies.values()} == {"turns/1"}
    if told.exit_code:
        assert {each["status"] for each in latencies.values()} == {"contended"}
    else:
        assert latencies["wide.json"]["value"] > latencies["tiny.json"]["value"]
        assert len(latencies["tiny.json"]["samples"]) >= 6


@pytest.mark.slow
def test_a_table_for_people(run):
    """Percentiles of single calls, throughput and MACs stand beside the figures."""
    told = run("measure", "tiny.json", "--size", "32")
    for expected in (
        "tiny.json",
        "latency, batch 1",
        "energy per frame",
        "peak memory",
        "single calls",
    ):
        assert expected in told.stdout
    assert "p90" in told.stdout or "contended" in told.stdout
    assert ("frames/s" in told.stdout) == (told.exit_code == 0)


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
        (
            ("tiny.json", "--runtime", "abacus"),
            "no 'abacus' among the runtimes; there are: eager, graph, compile",
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
        (
            ("tiny.json", "--size", "4", "--tier", "certify"),
            "the reference vovnet27_slim takes no images of 4 pixels",
        ),
        (
            ("tiny.json", "--size", "32", "--meter", "abacus"),
            "no 'abacus' in nas.measuring.meters; there are: ",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_clear_line(run, arguments, message):
    """Unknown names, missing files, an unknown runtime, an image size that the network cannot
    take.
    """
    told = run("measure", *arguments)
    assert told.exit_code == 2
    assert told.stderr.startswith("error: ")
    assert message in told.stderr
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "most"),
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
def test_a_number_that_is_too_large_is_refused_with_the_largest_allowed(run, tmp_path, words, most):
    """Before anything is written; the last line of click's says it."""
    told = run(*words)
    assert told.exit_code == 2
    assert most.format(cores=len(os.sched_getaffinity(0))) in told.stderr.splitlines()[-1]
    assert not (tmp_path / "nas.db").exists()


def test_a_closed_lock_folder_is_one_clear_line(run, tmp_path, monkeypatch):
    """With the variable that moves it; the doctor says the same."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "file" / "locks"))
    assert "set NAS_LOCK_DIR" in run("measure", "tiny.json", "--size", "32").stderr
    lock = next(
        each for each in json.loads(run("doctor", "--json").stdout) if each["what"] == "device lock"
    )
    assert not lock["available"]
    assert "set NAS_LOCK_DIR" in lock["detail"]


def test_the_doctor_gives_a_reason_for_all_that_is_missing(run):
    """Everything is named with whether it can be had, and each line says what or why not."""
    found = {each["what"]: each for each in json.loads(run("doctor", "--json").stdout)}
    assert {
        "host",
        "quiet",
        "device lock",
        "CPU latency",
        "CPU energy",
        "NVML",
        "runtime onnxruntime",
    } <= set(found)
    assert all(each["detail"] for each in found.values())
    assert found["NVML"]["available"] or "NVML" in found["NVML"]["detail"]
    assert ("GPU class" in found) == torch.cuda.is_available()


def never(_):
    raise AssertionError("no trial was asked for")


def test_counts_of_a_foreign_network_are_torchs_own():
    """A 3x3 convolution to 4 channels on 8 pixels: 3 * 9 * 4 * 64 multiply-accumulates, found by
    torch's counter.
    """
    target = Target(name="net", network=nn.Conv2d(3, 4, 3, padding=1))
    assert target.macs(8) == 3 * 9 * 4 * 64


def test_models_of_timm_and_torchvision_are_found():
    """By their own names, without pretrained weights; an unknown one is said."""
    pytest.importorskip("timm")
    pytest.importorskip("torchvision")
    assert isinstance(load_target("timm:resnet10t", PLAN, never).network, nn.Module)
    assert isinstance(load_target("torchvision:squeezenet1_1", PLAN, never).network, nn.Module)
    with pytest.raises(InvalidValueError, match="timm has no model 'nonesuch'"):
        load_target("timm:nonesuch", PLAN, never)


def test_a_callable_must_give_a_module():
    """`collections:OrderedDict` is importable and no network."""
    with pytest.raises(InvalidValueError, match="gives a OrderedDict, not a torch module"):
        load_target("collections:OrderedDict", PLAN, never)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    """Without architecture.json, or with broken weights."""
    with pytest.raises(InvalidValueError, match="no folder of nas export"):
        load_target(str(tmp_path), PLAN, never)
    (tmp_path / "architecture.json").write_text(
        json.dumps({"architecture": TINY.to_dict(), "classes": ["a", "b"]})
    )
    (tmp_path / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CorruptFileError, match=r"model\.safetensors"):
        load_target(str(tmp_path), PLAN, never)


def test_a_trial_is_found_by_its_name():
    """The caller looks it up; the architecture and its classes are the trial's."""
    target = load_target("study:3", PLAN, lambda text: {"study:3": (TINY, 7)}[text])
    assert (target.architecture, target.num_classes) == (TINY, 7)


def test_an_unknown_target_lists_what_there_may_be():
    """One line with all kinds."""
    with pytest.raises(UnknownNameError, match=r"timm:NAME, torchvision:NAME"):
        load_target("foo", PLAN, never)
