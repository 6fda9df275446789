"""What a built network costs, seen by forward hooks while one image runs through it.

A second way to the numbers of `nas.complexity`, sharing no arithmetic with it: sizes are those of the tensors that
really pass. A network on the meta device is counted without being computed.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nas.complexity import Complexity, Size
from nas.model.vovnet import VoVNet


@dataclass
class _Sums:
    """What the hooks add up."""

    macs: int = 0
    memory_access_cost: int = 0
    activations: int = 0
    convolutions: int = 0
    stages: list[tuple[int, int, int]] = field(default_factory=list)

    def layer(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        """Add a convolution or the classifier."""
        weight: Tensor = module.get_parameter("weight")  # (out, in / groups, height, width), or (out, in)
        self.macs += output.numel() * weight[0].numel()
        self.memory_access_cost += inputs[0].numel() + output.numel() + weight.numel()
        if isinstance(module, nn.Conv2d):
            self.activations += output.numel()
            self.convolutions += 1

    def stage(self, _: nn.Module, __: tuple[Tensor], output: Tensor) -> None:
        """Note a stage's output shape."""
        channels, height, width = output.shape[1:]
        self.stages.append((channels, height, width))


def count_by_hooks(model: VoVNet, image_size: int | Size = 224) -> Complexity:
    """Count the model for one image of `image_size` pixels (height and width, or both alike).

    The model's weights, statistics and mode stay as they are. Definitions are those of `nas.complexity`.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    image = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    sums = _Sums()
    handles = [m.register_forward_hook(sums.layer) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles += [stage.register_forward_hook(sums.stage) for stage in model.stages]
    was_training = model.training
    try:
        with torch.no_grad():
            model.eval()(image)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    classifier = sum(parameter.numel() for parameter in model.head.parameters())
    return Complexity(
        parameters=parameters,
        backbone_parameters=parameters - classifier,
        macs=sums.macs,
        memory_access_cost=sums.memory_access_cost,
        activations=sums.activations,
        convolutions=sums.convolutions,
        stages=tuple(sums.stages),
    )
