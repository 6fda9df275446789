"""A detector's network, and the whole detector with its post-processing, as targets to measure."""

import torch
from torch import Tensor, nn

from nas.core.errors import InvalidValueError, first_line
from nas.detection.multibox import Multibox
from nas.detection.systems import DetectorSpec
from nas.detection.training import network_of
from nas.measuring.metrics import CALIBRATION_IMAGES, calibrate
from nas.measuring.targets import Target


class Outputs(nn.Module):
    """A network whose maps by name become a tuple. It runs the same operations for all images."""

    has_fixed_graph = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs."""
        outputs = self.network(images)
        return tuple(outputs.values()) if isinstance(outputs, dict) else tuple(outputs)


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


def measured_part(spec: DetectorSpec, part: str) -> nn.Module:
    """Return the `detector` with its post-processing, its `network` or its `backbone`, on the CPU,
    with the same random weights every time and BatchNorm calibrated on Gaussian noise.

    Raises `InvalidValueError` for a network that does not fit the system or the image's size.
    """
    side = spec.image_size
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        detector = spec.build()
        network = network_of(detector)
        try:
            calibrate(network, torch.randn(CALIBRATION_IMAGES, 3, side, side))
        except (RuntimeError, ValueError) as error:
            line = first_line(error)
            raise InvalidValueError(
                f"{spec.system} takes no images of {side} pixels on this network: {line}"
            ) from error
    if part == "detector":
        return WholeDetector(detector.eval())
    return Outputs(network if part == "network" else network.get_submodule("features")).eval()
