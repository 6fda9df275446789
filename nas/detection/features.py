"""Feature maps of a network for detectors, and the feature pyramid over them.

Levels have the bundle's names: `c2` is the output of the first stage, and so on.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, cast

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import (
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError
from nas.core.published import PUBLISHED
from nas.export import Bundle, feature_names
from nas.model import VoVNet, build

MEAN = (123 / 255, 117 / 255, 104 / 255)
"""Mean of red, green and blue in the paper's Caffe code, for networks without a bundle."""
STD = (1 / 255,) * 3
"""The Caffe code does not divide; its pixels go from 0 to 255."""
MIN_STRIDE = 4
"""Smallest stride of a first stage. Smaller ones give hundreds of thousands of boxes."""
PROBE_PIXELS = 256
"""Side of the image that finds channels and strides."""

Source = Architecture | VoVNet | Path | str
"""A network: an architecture, a built one, the name of a published one, or the folder of a bundle.
"""


class Body(Protocol):
    """Interface of the networks under a detector; they are torch modules.

    Maps images (N, 3, H, W) to features (N, out_channels[i], H / strides[i], W / strides[i]),
    highest resolution first. Images are normalised by `mean` and `std`.
    """

    out_channels: list[int]
    strides: list[int]
    mean: list[float]
    std: list[float]

    def __call__(self, images: Tensor, /) -> "OrderedDict[str, Tensor]":
        """Return the features by level."""


class Features(nn.Module):
    """A torchvision backbone: stages of a network, without its classifier.

    `levels` names the stages. Without it, the last `most` of those with at least `min_stride` image
    pixels per feature pixel are used. Maps images (N, 3, H, W) to features (N, out_channels[i],
    H / strides[i], W / strides[i]) with the names "0", "1", …, highest resolution first. `mean` and
    `std` normalise the images. A bundle gives its weights; other sources give random ones. Raises
    `InvalidValueError` for an unknown level or source, and `CorruptFileError` if the folder is not
    a readable bundle.
    """

    def __init__(
        self,
        source: Source,
        levels: Sequence[str] | None = None,
        *,
        most: int = 4,
        min_stride: int = 1,
    ) -> None:
        super().__init__()
        model, self.mean, self.std = _network(source)
        reductions = [int(info["reduction"]) for info in model.feature_info]
        names = feature_names(len(reductions))
        self.first_stride = reductions[0]
        if levels is None:
            coarse = [name for name, r in zip(names, reductions, strict=True) if r >= min_stride]
            levels = coarse[-most:] or names[-1:]
        if not levels or list(levels) != [name for name in names if name in levels]:
            raise InvalidValueError(
                f"levels must be some of {', '.join(names)}, in this order, not {list(levels)}"
            )
        self.stage_indices = [names.index(level) for level in levels]
        self.stem, self.stages = model.stem, model.stages[: self.stage_indices[-1] + 1]
        self._frozen: list[nn.Module] = []
        self.out_channels, self.strides = channels_and_strides(self.train())

    def freeze_norm(self) -> None:
        """Keep the statistics, factors and shifts of all BatchNorms, also in training.

        Raises `InvalidValueError` if there are none.
        """
        self._frozen = [each for each in self.modules() if isinstance(each, nn.BatchNorm2d)]
        if not self._frozen:
            raise InvalidValueError("this network has no BatchNorm to freeze")
        for norm in self._frozen:
            norm.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers but the frozen ones."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the features by level."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return OrderedDict(
            (str(place), maps[index]) for place, index in enumerate(self.stage_indices)
        )


class Pyramid(nn.Module):
    """A feature pyramid over `features`, with `channels` channels at each level.

    With `pooled` it has one more level, the last one pooled, for Mask R-CNN. Otherwise it has two
    more levels by convolution, for one-stage detectors. Each further level halves the resolution.
    `norm` follows each convolution of the pyramid.
    """

    def __init__(
        self,
        features: Body,
        channels: int = 256,
        *,
        pooled: bool = False,
        norm: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.fpn = FeaturePyramidNetwork(
            features.out_channels,
            channels,
            LastLevelMaxPool() if pooled else LastLevelP6P7(channels, channels),
            norm,
        )
        self.out_channels = channels
        further = 1 if pooled else 2
        self.strides = [
            *features.strides,
            *(features.strides[-1] * 2 ** (i + 1) for i in range(further)),
        ]

    def forward(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the features by level, highest resolution first."""
        maps: OrderedDict[str, Tensor] = self.fpn(self.features(images))
        return maps


def body(source: Source | nn.Module, *, min_stride: int) -> Body:
    """Return the maps of `source` with at least `min_stride` image pixels per feature pixel.

    A module is a peer's body and is returned as it is. Raises `InvalidValueError` for a network
    whose first stage has a stride below 4.
    """
    if isinstance(source, nn.Module) and not isinstance(source, VoVNet):
        return cast("Body", source)
    features = Features(source, min_stride=min_stride)
    check_stride(features)
    return features


def check_stride(features: Features) -> None:
    """Raise `InvalidValueError` for a network whose first stage has a stride below 4."""
    if features.first_stride < MIN_STRIDE:
        raise InvalidValueError(
            f"the first stage of the network has stride {features.first_stride}, and this detector "
            f"needs {MIN_STRIDE} or more; use the stem code or paper, as in the space osa_detection"
        )


@torch.inference_mode()
def map_shapes(features: Body, image_size: int = PROBE_PIXELS) -> list[tuple[int, int, int]]:
    """Return channels, heights and widths of the maps, by a forward pass in eval mode.

    Raises `InvalidValueError` if the image is too small for the network.
    """
    module = cast("nn.Module", features)
    was_training = module.training
    try:
        maps = module.eval()(torch.zeros(1, 3, image_size, image_size))
    except RuntimeError as error:
        raise InvalidValueError(
            f"an image of {image_size} pixels is too small for this network: {error}"
        ) from error
    module.train(was_training)
    return [(x.shape[1], x.shape[2], x.shape[3]) for x in maps.values()]


def channels_and_strides(features: Body) -> tuple[list[int], list[int]]:
    """Return the channels and the strides of the maps."""
    shapes = map_shapes(features)
    return [shape[0] for shape in shapes], [PROBE_PIXELS // shape[1] for shape in shapes]


def _network(source: Source) -> tuple[VoVNet, list[float], list[float]]:
    """Return the network, and the mean and standard deviation of its images."""
    if isinstance(source, str):
        source = PUBLISHED.get(source, Path(source))
    if isinstance(source, Path):
        bundle = Bundle(source)
        return bundle.model, list(bundle.facts.mean), list(bundle.facts.std)
    model = build(source, 0) if isinstance(source, Architecture) else source
    return model, list(MEAN), list(STD)
