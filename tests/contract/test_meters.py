"""Every shipped meter against the contract."""

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
    """The fake, so that tests built on it stand on the same contract."""

    def make(self):
        return FakeMeter(power_w=10)


class TestFakeMeterWithoutCounter(MeterContract):
    """The fake without energy."""

    def make(self):
        return FakeMeter()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestCudaMeter(MeterContract):
    """The current CUDA device."""

    def make(self):
        return CudaMeter()


def test_meters_are_found_by_name():
    """The CPU's meter is there on every machine, and is the choice where there is no GPU."""
    with find_meter("cpu") as meter:
        assert meter.torch_device == "cpu"
    with find_meter() as meter:
        assert meter.device.kind == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_unknown_meter_is_named_with_those_that_exist():
    """The message lists the registered meters."""
    with pytest.raises(UnknownNameError, match=r"no 'tpu' in nas\.meters; there are: cpu, cuda"):
        find_meter("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_one_clear_line():
    """Without a CUDA device its meter says so."""
    with pytest.raises(UnavailableError, match="no CUDA device"):
        find_meter("cuda")
