"""Every runtime of this repository passes the contract."""

import shutil
from functools import partial

import pytest
import torch

from nas.core import plugins
from nas.core.measurement import MeasurementPlan
from nas.measuring.meters import find_meter
from nas.measuring.runtimes import find_runtime, runtime_problem
from nas.testing.runtime_contract import RuntimeContract

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class OnGpu(RuntimeContract):
    """A runtime on the current CUDA device."""

    def meter(self):
        return find_meter("cuda")


class TestEager(RuntimeContract):
    """PyTorch, operation by operation."""

    def make(self):
        return find_runtime("eager")


@pytest.mark.slow
class TestOnnxRuntime(RuntimeContract):
    """ONNX Runtime on the CPU."""

    def make(self):
        return find_runtime("onnxruntime")

    @pytest.mark.long
    def test_each_of_many_networks_of_a_session_gives_its_own_outputs(self):
        """Forty networks are exported, which takes a minute."""
        super().test_each_of_many_networks_of_a_session_gives_its_own_outputs()


@pytest.mark.slow
class TestOpenVino(RuntimeContract):
    """OpenVINO on the CPU."""

    def make(self):
        return find_runtime("openvino")


class TestCompileByDynamo(RuntimeContract):
    """`torch.compile` without inductor, for many networks."""

    @pytest.fixture(autouse=True)
    def _dynamo_only(self, monkeypatch):
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))

    def make(self):
        return find_runtime("compile")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs g++")
class TestCompile(RuntimeContract):
    """`torch.compile` with the C++ code of inductor."""

    networks = 3

    def make(self):
        return find_runtime("compile")


@pytest.mark.gpu
@needs_gpu
class TestEagerOnGpu(OnGpu):
    """PyTorch, operation by operation."""

    def make(self):
        return find_runtime("eager")


@pytest.mark.gpu
@needs_gpu
class TestGraph(OnGpu):
    """A CUDA graph."""

    def make(self):
        return find_runtime("graph")


@pytest.mark.gpu
@needs_gpu
class TestCompileOnGpu(OnGpu):
    """`torch.compile` with Triton."""

    networks = 3

    def make(self):
        return find_runtime("compile")


@pytest.mark.parametrize("name", plugins.names("nas.runtimes"))
def test_every_runtime_has_a_word_on_every_device(name):
    """A device that no runtime knows has no traceback."""
    problem = runtime_problem("abacus", MeasurementPlan(runtime=name))
    assert problem is None or problem.strip()
