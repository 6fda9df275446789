"""Scores of a network that was never trained, said to tell good networks from bad: larger is
better. Each is a function from a network, which it may spoil, and the side of its images in pixels.
Group `nas.scores`.

Written from the papers' formulas. Images are normal noise of one seed, where the papers take some
of the data, and weights the usual initial ones of one seed, so that a score is a function of the
architecture.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.errors import NasError
from nas.model import build
from nas.model.vovnet import OsaBlock

IMAGES = 64


def naswot(network: nn.Module, image_size: int) -> float:
    """Mellor et al., "Neural Architecture Search without Training", ICML 2021: the logarithm of the
    determinant of the matrix that counts, for two images, the ReLUs of which both or neither fire.
    """
    kernel = torch.zeros(IMAGES, IMAGES, dtype=torch.float64)
    with _outputs(network, nn.ReLU) as found:
        _forward(network, image_size)
        for output in found:
            fires = (output > 0).flatten(1).to(torch.float32)
            kernel += (fires @ fires.T + (1 - fires) @ (1 - fires).T).double()
    return float(torch.linalg.slogdet(kernel).logabsdet)


def synflow(network: nn.Module, image_size: int) -> float:
    """Tanaka et al., "Pruning Neural Networks without Any Data by Iteratively Conserving Synaptic
    Flow", NeurIPS 2020: the logarithm of the sum of parameter times gradient, of all outputs of an
    image of ones by absolute weights.
    """
    network = network.double().eval()  # BatchNorm that has seen nothing passes on what it gets
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network(torch.ones(1, 3, image_size, image_size, dtype=torch.float64)).sum().backward()
    flow = sum(
        float((parameter.detach() * parameter.grad).sum())
        for parameter in network.parameters()
        if parameter.grad is not None
    )
    return math.log(flow)


def expressivity(network: nn.Module, image_size: int) -> float:
    """Lee & Ham, "AZ-NAS", CVPR 2024: the sum of its blocks' entropies."""
    return sum(_entropies(network, image_size))


def progressivity(network: nn.Module, image_size: int) -> float:
    """AZ-NAS: the least rise of entropy from one block to the next."""
    entropies = _entropies(network, image_size)
    return min(after - before for before, after in pairwise(entropies))


def scores(
    architecture: Architecture, image_size: int, num_classes: int, names: Sequence[str]
) -> dict[str, float]:
    """These of group `nas.scores`, each of a network of its own. Raises `NasError` where one is no
    number.
    """
    found = {
        name: float(
            plugins.load("nas.scores", name)(_initial(architecture, num_classes), image_size)
        )
        for name in names
    }
    for name, value in found.items():
        if math.isnan(value):
            raise NasError(f"score {name}: gave no number for network {architecture.digest[:12]}")
    return found


def _initial(architecture: Architecture, num_classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(architecture, num_classes)


def _forward(network: nn.Module, image_size: int) -> None:
    """BatchNorm by the statistics of the batch."""
    images = torch.randn(
        IMAGES, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        network.train()(images)


def _entropies(network: nn.Module, image_size: int) -> list[float]:
    """Of the shares that the principal components of each block's features (all positions) have in
    their variance.
    """
    found = []
    with _outputs(network, OsaBlock) as outputs:
        _forward(network, image_size)
        for output in outputs:
            features = output.transpose(0, 1).flatten(1).double()  # (C, N H W)
            strengths = torch.linalg.eigvalsh(torch.cov(features)).clamp(min=0)
            shares = strengths[strengths > 0] / strengths.sum()
            found.append(float(-(shares * shares.log()).sum()))
    return found


@contextmanager
def _outputs(network: nn.Module, kind: type[nn.Module]) -> Iterator[list[Tensor]]:
    """What modules of this kind give in a forward pass, in order."""
    found: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: found.append(output.clone()))
        for module in network.modules()
        if isinstance(module, kind)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
