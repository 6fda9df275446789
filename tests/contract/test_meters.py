"""Every meter of this repository passes the contract."""

import pytest
import torch

from nas.core.errors import UnavailableError, UnknownNameError
from nas.measuring.meters import find_meter
from nas.measuring.meters.cpu import CpuMeter
from nas.measuring.meters.cuda import CudaMeter
from nas.testing.fake_meter import FakeMeter
from nas.testing.meter_contract import MeterContract


class TestCpuMeter(MeterContract):
    """The processor of this machine."""

    def make(self):
        return CpuMeter()


class TestFakeMeter(MeterContract):
    """The fake meter, since other tests rely on it."""

    def make(self):
        return FakeMeter(power_w=10)


class TestFakeMeterWithoutCounter(MeterContract):
    """The fake meter without an energy counter."""

    def make(self):
        return FakeMeter()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCudaMeter(MeterContract):
    """The current CUDA device."""

    def make(self):
        return CudaMeter()


def test_meters_are_found_by_name():
    """Every machine has the meter `cpu`, which is the default without a GPU."""
    with find_meter("cpu") as meter:
        assert meter.torch_device == "cpu"
    with find_meter() as meter:
        assert meter.device.kind == ("cuda" if torch.cuda.is_available() else "cpu")


def test_the_error_for_an_unknown_meter_lists_the_meters():
    with pytest.raises(UnknownNameError, match=r"no 'tpu' in devices; there are: cpu, cuda"):
        find_meter("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_meter_of_a_missing_gpu_is_refused():
    with pytest.raises(UnavailableError, match="no CUDA device"):
        find_meter("cuda")
