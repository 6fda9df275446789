"""Architectures as torch modules."""

from nas.core.architecture import Architecture
from nas.model.vovnet import VoVNet

__all__ = ["VoVNet", "build"]


def build(architecture: Architecture, num_classes: int) -> VoVNet:
    """Build the network with random weights. `num_classes` 0 leaves the classifier out."""
    return VoVNet(**architecture.to_dict(), num_classes=num_classes)
