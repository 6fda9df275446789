"""A torch network on a device in a plan's precision and memory layout, as PyTorch's runtimes
execute it.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.measurement import MeasurementPlan
from nas.measuring.runtimes import PRECISIONS, Forward, Loaded


def placed(network: nn.Module, plan: MeasurementPlan, device: str) -> nn.Module:
    """Return a copy of the network in evaluation mode, in the plan's precision and layout."""
    model = copy.deepcopy(network).eval().to(device, PRECISIONS[plan.precision])
    return model.to(memory_format=memory_format(plan))


def memory_format(plan: MeasurementPlan) -> torch.memory_format:
    """Return the memory format of weights and inputs."""
    return torch.channels_last if plan.in_channels_last else torch.contiguous_format


def loaded(model: nn.Module, forward: Forward, plan: MeasurementPlan) -> Loaded:
    """Return a placed network with its conditions, read from torch and from the network."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return Loaded(
        forward=forward,
        weights_bytes=sum(tensor.nbytes for tensor in tensors),
        precision=_precision(tensors, plan),
        threads=torch.get_num_threads(),
        layout="channels_last" if plan.in_channels_last else "contiguous",
    )


def _precision(tensors: list[Any], plan: MeasurementPlan) -> str:
    """Return the precision that the network's weights have."""
    types = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if types <= {PRECISIONS[plan.precision]}:
        return str(plan.precision)
    return " and ".join(sorted(str(kind).removeprefix("torch.") for kind in types))
