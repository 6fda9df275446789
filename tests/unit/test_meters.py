"""Rules of the meters that need no device."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nas.core import plugins
from nas.core.measurement import MeasurementPlan, Status
from nas.measuring.doctor import runtime_findings
from nas.measuring.meters.cuda import driver_branch
from nas.measuring.meters.nvml import process_shares
from nas.measuring.meters.watch import DeviceState, Watch
from nas.measuring.runtimes import Runtime
from nas.measuring.runtimes.compiled import COMPILE
from nas.measuring.runtimes.eager import EAGER
from nas.testing.fake_meter import FakeMeter

sys.path.append(str(Path(__file__).parents[1] / "gpu"))
from survey import write_all

OWN, OTHER, ENDED = 1, 7, 8
GARBAGE = 2147483632


def sample(pid, sm, **others):
    """Return a sample of the driver, where all other utilisations are 0 by default."""
    return SimpleNamespace(
        pid=pid, smUtil=sm, **({"memUtil": 0, "encUtil": 0, "decUtil": 0} | others)
    )


@pytest.mark.parametrize(
    ("samples", "shares"),
    [
        ([sample(OWN, 60), sample(OTHER, 40)], {OTHER: 40}),
        ([sample(OTHER, 10), sample(OTHER, 40), sample(OTHER, 20)], {OTHER: 40}),
        ([sample(OTHER, 0)], {}),
        ([sample(ENDED, 40)], {}),
        ([sample(ENDED, GARBAGE), sample(OTHER, 40)], {OTHER: 40}),
        ([sample(OWN, GARBAGE), sample(OTHER, 40)], {OTHER: 40}),
        ([sample(OTHER, GARBAGE)], None),
        ([sample(OTHER, 40, decUtil=101)], None),
    ],
)
def test_only_possible_shares_of_running_processes_count(samples, shares):
    """Samples of processes that do not run are left out. An impossible share of a running process
    leaves all shares unknown.
    """
    assert process_shares(samples, {OWN, OTHER}, OWN) == shares


@pytest.mark.parametrize(("percent", "status"), [(2, None), (3, Status.CONTENDED)])
def test_a_neighbour_may_use_two_percent(percent, status):
    """A display uses a little of a GPU all the time. Up to the half width of an interval it is only
    noted, with its share.
    """
    meter = FakeMeter()
    meter.state_at = lambda now_s: DeviceState(time_s=now_s, busy={OTHER: percent})
    watch = Watch(meter)
    watch.begin()
    meter.work(1)
    problem = watch.problem()
    assert (problem and problem.status) == status
    assert watch.details()["watch"]["other_percent"] == {str(OTHER): percent}


def test_patch_levels_of_a_driver_are_one_branch():
    """Two machines of one kind had these drivers, and their figures may be compared."""
    assert driver_branch("580.159.03") == driver_branch("580.159.04") == "580"


def test_an_interrupted_survey_keeps_the_parts_that_are_done(tmp_path):
    """The file has the conditions and the first part when the second one is interrupted."""

    def results():
        yield "rhythm", {"period_s": 0.1}
        raise KeyboardInterrupt

    path = tmp_path / "survey.json"
    with pytest.raises(KeyboardInterrupt):
        write_all(path, {"device": "stub"}, results())
    assert json.loads(path.read_text()) == {"device": "stub", "rhythm": {"period_s": 0.1}}


@pytest.mark.parametrize(
    ("kind", "tools", "expected"),
    [
        ("cpu", {"g++"}, None),
        ("cpu", {"gcc", "triton"}, "on a CPU needs a C++ compiler: install g++"),
        ("cuda", {"gcc", "triton"}, None),
        ("cuda", {"clang", "triton"}, None),
        ("cuda", {"g++"}, "on a GPU needs the package triton and a C compiler (gcc)"),
    ],
)
def test_compiling_names_what_it_needs(tmp_path, monkeypatch, kind, tools, expected):
    """On a CPU it needs a C++ compiler, on a GPU Triton and a C compiler."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for compiler in tools - {"triton"}:
        (folder / compiler).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name in tools or None)
    obstacle = COMPILE.obstacle(kind, MeasurementPlan(runtime="compile"))
    assert obstacle == (expected and f"torch.compile {expected}")


class Foreign(Runtime):
    """A runtime of somebody else's, with a mistake in one of its methods."""

    def __init__(self, method):
        setattr(self, method, self.fail)

    def fail(self, *_):
        raise KeyError("threads")

    def load(self, built, inputs, plan):
        """Return the network of eager."""
        return EAGER.load(built, inputs, plan)


@pytest.mark.parametrize("method", ["obstacle", "build", "load"])
def test_the_doctor_survives_a_runtime_that_fails(monkeypatch, method):
    """The error is one line, and the runtimes after it are tried too."""
    module = SimpleNamespace(RUNTIME=Foreign(method))
    monkeypatch.setitem(sys.modules, "foreign_runtime", module)
    monkeypatch.setattr(plugins, "names", lambda _: ["foreign_runtime:RUNTIME", "eager"])
    foreign, eager = runtime_findings(FakeMeter())
    assert (foreign.available, eager.available) == (False, True)
    assert "KeyError: 'threads'" in foreign.detail
    assert len(foreign.detail.splitlines()) == 1


def test_the_doctor_names_the_extra_of_a_missing_runtime(monkeypatch):
    """It is the command that installs the package."""
    monkeypatch.setattr(plugins, "names", lambda _: ["openvino", "onnxruntime"])
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    openvino, onnxruntime = runtime_findings(FakeMeter())
    assert "pip install 'osa-nas[openvino]'" in openvino.detail
    assert "pip install 'osa-nas[export]'" in onnxruntime.detail
