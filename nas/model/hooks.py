"""The costs of a built network, counted with forward hooks while one image passes through it.

This is a second way to the numbers of `nas.core.complexity` without its arithmetic: the sizes are
those of the real tensors. A network on the meta device is counted without computing anything.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.core.complexity import Complexity, Size
from nas.model.vovnet import VoVNet

COUNTED = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d
"""Layers that get a hook."""


@dataclass
class Tally:
    """Sums over a network's convolutions and dense layers for one image, with the definitions of
    `nas.core.complexity`.

    `weights` are the elements of their kernels, and `norm_outputs` the output elements of
    BatchNorms. The FLOPs of the VoVNet paper's table 4 are the sum of the latter and the MACs.
    """

    parameters: int
    macs: int = 0
    memory_access_cost: int = 0
    weights: int = 0
    activations: int = 0
    convolutions: int = 0
    norm_outputs: int = 0

    def add(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        """Add a convolution, a dense layer or a BatchNorm; this is a forward hook."""
        if isinstance(module, nn.BatchNorm2d):
            self.norm_outputs += output.numel()
            return
        is_deconvolution = isinstance(module, nn.ConvTranspose2d)
        weight: Tensor = module.get_parameter("weight")
        # (out, in / groups, h, w) or (out, in), and (in, out / groups, h, w) of a deconvolution
        positions = inputs[0] if is_deconvolution else output
        self.macs += positions.numel() * weight[0].numel()
        self.weights += weight.numel()
        self.memory_access_cost += inputs[0].numel() + output.numel() + weight.numel()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            self.activations += output.numel()
            self.convolutions += 1


def tally(model: nn.Module, image_size: int | Size = 224) -> Tally:
    """Count any network for one image of `image_size` pixels: the side, or height and width.

    The model's weights, statistics and mode do not change.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    parameters = list(model.parameters())
    image = torch.zeros(1, 3, height, width, device=parameters[0].device)
    sums = Tally(parameters=sum(parameter.numel() for parameter in parameters))
    handles = [m.register_forward_hook(sums.add) for m in model.modules() if isinstance(m, COUNTED)]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return sums


def count_by_hooks(model: VoVNet, image_size: int | Size = 224) -> Complexity:
    """Count a VoVNet like `tally`, and record the shapes of its stages' outputs."""
    shapes: list[tuple[int, int, int]] = []

    def note(_: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        channels, height, width = output.shape[1:]
        shapes.append((channels, height, width))

    handles = [stage.register_forward_hook(note) for stage in model.stages]
    try:
        sums = tally(model, image_size)
    finally:
        for handle in handles:
            handle.remove()
    classifier = sum(parameter.numel() for parameter in model.head.parameters())
    return Complexity(
        parameters=sums.parameters,
        backbone_parameters=sums.parameters - classifier,
        macs=sums.macs,
        memory_access_cost=sums.memory_access_cost,
        activations=sums.activations,
        convolutions=sums.convolutions,
        stages=tuple(shapes),
    )
