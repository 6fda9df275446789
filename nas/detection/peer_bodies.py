"""The bodies that the paper compares with VoVNet in its detectors, with random weights.

They end in the maps that the published counts fix (tables 2 and 4). DenseNets give the output of a
transition before its pool.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet50, resnet101

from nas.detection.features import MEAN, STD, channels_and_strides
from nas.detection.layers import NormActConv
from nas.model.densenet import DenseNet, DsodTrunk, Transition

FUSED_CHANNELS = 256
"""Channels of DSOD's first source map when it is fused with the second one."""


class PeerBody(nn.Module):
    """Base of the peers' bodies: maps from `features` by level, finest first."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = list(MEAN), list(STD)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Return the maps (N, C, H, W), finest first."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the maps by level."""
        return OrderedDict((str(i), x) for i, x in enumerate(self.features(images)))

    def _probe(self) -> None:
        self.out_channels, self.strides = channels_and_strides(self)


class ResNetBody(PeerBody):
    """ResNet-50 or -101 from torchvision, without its classifier: the last `levels` stages.

    With `first_strided` the first 1x1 convolution of a stage has its stride, as in the original and
    in the paper's RefineDet. Otherwise the 3x3 convolution has it.
    """

    def __init__(self, depth: int, *, levels: int = 3, first_strided: bool = True) -> None:
        super().__init__()
        builder: Callable[[], nn.Module] = {50: resnet50, 101: resnet101}[depth]
        model = builder()
        self.stem = nn.Sequential(*list(model.children())[:4])
        self.stages = nn.Sequential(*list(model.children())[4:8])
        for index in range(1, 4) if first_strided else ():
            block: Any = self.stages[index].get_submodule("0")
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
        self.levels = levels
        self._probe()

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Return the outputs of the stages."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[-self.levels :]


class DenseNetBody(PeerBody):
    """A DenseNet for ImageNet: the outputs of its last two transitions and of its last block."""

    def __init__(self, model: DenseNet) -> None:
        super().__init__()
        self.layers = model.features
        self._probe()

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Return the outputs with strides 8, 16 and 32."""
        x, maps = images, []
        layer: Any
        for layer in self.layers:
            if isinstance(layer, Transition):
                x = layer.conv(layer.relu(layer.norm(x)))
                maps.append(x)
                x = layer.pool(x)
            else:
                x = layer(x)
        return [*maps[1:], torch.relu(x)]


class DenseNet67Body(PeerBody):
    """DSOD's own body (DS/64-64-16-1), with its first two source maps.

    The second one is the trunk's output beside the first one, pooled and reduced.
    """

    def __init__(self) -> None:
        super().__init__()
        trunk = list(DsodTrunk())
        second = [i for i, layer in enumerate(trunk) if isinstance(layer, Transition)][1]
        transition: Any = trunk[second]
        self.to_first = nn.Sequential(*trunk[:second], transition.norm, transition.relu)
        self.to_first.append(transition.conv)
        self.pool = transition.pool
        self.to_second = nn.Sequential(*trunk[second + 1 :])
        self.fusion = NormActConv(transition.conv.out_channels, FUSED_CHANNELS)
        self._probe()

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """Return the source maps with strides 8 and 16."""
        first = self.to_first(images)
        pooled = self.pool(first)
        return [first, torch.cat([self.to_second(pooled), self.fusion(pooled)], dim=1)]


def densenet201() -> DenseNetBody:
    """Build DenseNet-201 (growth 32)."""
    return DenseNetBody(
        DenseNet(
            growth=32, layers=(6, 12, 48, 32), stem_channels=64, bottleneck=128, compression=0.5
        )
    )


def densenet161() -> DenseNetBody:
    """Build DenseNet-161 (growth 48)."""
    return DenseNetBody(
        DenseNet(
            growth=48, layers=(6, 12, 36, 24), stem_channels=96, bottleneck=192, compression=0.5
        )
    )
