"""Every space of this repository passes the contract."""

from nas.core import plugins
from nas.testing.space_contract import SpaceContract


class TestOsaCifar(SpaceContract):
    """The space for images of 32x32 pixels."""

    def make(self):
        return plugins.load("nas.spaces", "osa_cifar")


class TestOsaDetection(SpaceContract):
    """The space of backbones for detectors."""

    image_size = 224

    def make(self):
        return plugins.load("nas.spaces", "osa_detection")


class TestOsaTiny(SpaceContract):
    """The space for tests, which is listed in full."""

    def make(self):
        return plugins.load("nas.spaces", "osa_tiny")


def test_every_registered_space_is_tested():
    """A new space gets a class in this file."""
    assert plugins.names("nas.spaces") == ["osa_cifar", "osa_detection", "osa_tiny"]
