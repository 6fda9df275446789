"""A detector's network, and the whole detector with its post-processing, as targets to measure."""

from torch import Tensor, nn

from nas.detection.multibox import Multibox
from nas.detection.training import network_of
from nas.measuring.targets import Target


class WholeDetector(nn.Module):
    """A detector from normalised images (N, 3, S, S) to the boxes and scores of its detections."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Return the detections of each image."""
        if isinstance(self.detector, Multibox):
            return self.detector.detections(self.detector.network(images))
        found: list[dict[str, Tensor]] = self.detector(list(images))
        return found


def targets_of(name: str, detector: nn.Module) -> list[Target]:
    """Return the network of a detector and the whole detector as targets of a measurement."""
    network = network_of(detector)
    return [
        Target(name=f"{name}, network", network=network),
        Target(name=f"{name}, with post-processing", network=WholeDetector(detector)),
    ]
