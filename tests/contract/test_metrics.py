"""Every metric of this repository passes the contract."""

from nas.core import plugins
from nas.testing.metric_contract import EQUIVALENT, NETWORK, MetricContract


class TestParameters(MetricContract):
    """Learned numbers."""

    def make(self):
        return plugins.load("nas.metrics", "parameters")


class TestMacs(MetricContract):
    """Multiply-accumulates."""

    def make(self):
        return plugins.load("nas.metrics", "macs")


class TestMemoryAccessCost(MetricContract):
    """Elements moved."""

    def make(self):
        return plugins.load("nas.metrics", "memory_access_cost")


class TestModelledEnergy(MetricContract):
    """Energy by a table of operations."""

    def make(self):
        return plugins.load("nas.metrics", "modelled_energy")


class TestLatency(MetricContract):
    """Time of a batch on this processor, which may be contended."""

    def make(self):
        return plugins.load("nas.metrics", "latency")


class TestEnergy(MetricContract):
    """Energy of a frame, if this processor has a counter."""

    def make(self):
        return plugins.load("nas.metrics", "energy")


class TestPeakMemory(MetricContract):
    """Bytes at once."""

    def make(self):
        return plugins.load("nas.metrics", "peak_memory")


def test_every_registered_metric_is_tested():
    """A new metric gets a class in this file."""
    assert plugins.names("nas.metrics") == [
        "energy",
        "latency",
        "macs",
        "memory_access_cost",
        "modelled_energy",
        "parameters",
        "peak_memory",
    ]


def test_the_two_encodings_of_the_contract_are_one_network():
    """Their digests are equal, although their settings differ."""
    assert NETWORK != EQUIVALENT
    assert NETWORK.digest == EQUIVALENT.digest
