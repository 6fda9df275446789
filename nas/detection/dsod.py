"""DSOD300: detection from scratch with six source maps (Shen et al., ICCV 2017).

On an OSA network the maps are its stages of stride 8 and more, then DSOD's down-sampling. The
counts of the VoVNet paper's tables 2 and 3 fix this wiring, which the paper does not draw.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nas.detection.boxes import decode, priors, ssd_sides, ssd_sizes
from nas.detection.features import Body, Source, body, map_shapes
from nas.detection.layers import ChannelNorm, ConvNorm, Down, flattened
from nas.detection.multibox import Detections, Multibox, Target, detect, multibox_loss

RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
"""Ratios of the sides of the boxes on each map, beside two squares."""
BOXES = tuple(2 + 2 * len(ratios) for ratios in RATIOS)
"""Boxes of a cell on each map."""
MAX_DOWN_CHANNELS = 128
"""Channels of each half of a down-sampling: the paper's, less on narrow networks."""
MIN_STRIDE = 8
PREDICTOR_EPS = 1e-3
"""Epsilon of the predictors' BatchNorms."""


class DsodNetwork(nn.Module):
    """Maps images (N, 3, S, S) to deltas (N, P, 4) and logits (N, P, classes).

    `downs` are the channels of each half of the down-samplings after the body's maps.
    """

    def __init__(self, features: Body, num_classes: int, downs: Sequence[int]) -> None:
        super().__init__()
        self.features = features
        channels = list(features.out_channels)
        self.downs = nn.ModuleList()
        for growth in downs:
            self.downs.append(Down(channels[-1], growth))
            channels.append(2 * growth)
        self.norms = nn.ModuleList(ChannelNorm(width) for width in channels)
        self.deltas = nn.ModuleList(_predictors(channels, 4))
        self.logits = nn.ModuleList(_predictors(channels, num_classes))
        self.num_classes = num_classes

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the source maps, finest first."""
        maps = list(self.features(images).values())
        for down in self.downs:
            maps.append(down(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return deltas and logits in the order of map, row, column and box."""
        maps = [norm(x) for norm, x in zip(self.norms, self.maps(images), strict=True)]
        deltas = [flattened(f(x), 4) for f, x in zip(self.deltas, maps, strict=True)]
        logits = [flattened(f(x), self.num_classes) for f, x in zip(self.logits, maps, strict=True)]
        return torch.cat(deltas, dim=1), torch.cat(logits, dim=1)


class Dsod(Multibox):
    """DSOD with the losses `boxes` and `classes`."""

    per_class, most = 400, 200

    def losses(self, outputs: tuple[Tensor, ...], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the losses of a batch."""
        deltas, logits = outputs
        return multibox_loss(deltas, logits, [self.priors] * len(targets), targets)

    def detections(self, outputs: tuple[Tensor, ...]) -> list[Detections]:
        """Return the detections of each image."""
        deltas, logits = outputs
        boxes, scores = decode(deltas, self.priors), logits.softmax(dim=2)
        return [detect(*one, self.per_class, self.most) for one in zip(boxes, scores, strict=True)]


def dsod(
    source: Source | nn.Module,
    num_classes: int,
    *,
    image_size: int = 300,
    downs: Sequence[int] | int | None = None,
) -> Dsod:
    """Build DSOD for `num_classes` classes without the background.

    `downs` are the channels of each half of the down-samplings, or one number for all. There are
    enough of them for six maps, or for the first map of one pixel. Without it they have 128
    channels, or a quarter of the last stage's if that is less. Raises `InvalidValueError` for a
    network whose first stage has a stride below 4.
    """
    features = body(source, min_stride=MIN_STRIDE)
    own_stages = len(features.strides)
    if not isinstance(downs, Sequence):
        width = downs or min(MAX_DOWN_CHANNELS, max(8, round(features.out_channels[-1] / 32) * 8))
        downs = [width] * (len(RATIOS) - own_stages)
    sizes = [shape[1:] for shape in map_shapes(features, image_size)]
    while len(sizes) < own_stages + len(downs) and max(sizes[-1]) > 1:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    downs = downs[: len(sizes) - own_stages]
    steps = [*features.strides, *(image_size / width for _, width in sizes[own_stages:])]
    sides = ssd_sizes(len(sizes), image_size)
    shapes = [ssd_sides(a, b, r) for a, b, r in zip(sides, sides[1:], RATIOS, strict=False)]
    network = DsodNetwork(features, num_classes + 1, downs)
    boxes = priors(sizes, shapes, steps, image_size)
    return Dsod(network, boxes, image_size, features.mean, features.std)


def _predictors(channels: Sequence[int], values: int) -> list[ConvNorm]:
    """Return a 3x3 convolution with BatchNorm for each map, with `values` outputs a box."""
    layers = [
        ConvNorm(width, boxes * values, 3, eps=PREDICTOR_EPS)
        for width, boxes in zip(channels, BOXES, strict=False)
    ]
    for layer in layers:
        nn.init.normal_(layer.get_parameter("0.weight"), std=0.01)
    return layers
