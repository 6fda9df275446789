"""RefineDet320: boxes refined in two steps (Zhang et al., CVPR 2018), as VoVNet's authors built it.

The anchor refinement (ARM) moves the prior boxes and finds objects. The object detection (ODM)
classifies the moved boxes and moves them again. Each map first passes a residual block.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nas.core.errors import InvalidValueError
from nas.detection.boxes import decode, priors, stretched
from nas.detection.features import Body, Source, body
from nas.detection.layers import ConvNorm, Residual, flattened
from nas.detection.multibox import Detections, Multibox, Target, detect, multibox_loss
from nas.model.vovnet import ConvNormAct

NUM_MAPS = 4
BOXES = 3
"""Boxes of a cell: a square, then ratio 2 lying and standing."""
SIDE_PER_STRIDE = 4
"""Side of a square box, in strides of its map."""
MIN_STRIDE = 8
MAX_OWN_STAGES = 3
MIN_OBJECT = 0.01
"""Smallest probability of an object at which a prior counts in the second step."""
BOTTLENECK = 4
"""Channels of a further map, as a multiple of those inside its block."""
SIDE_MULTIPLE = 64
"""Sides of images are multiples of this, so that the last map can be doubled exactly."""


class RefineDetNetwork(nn.Module):
    """Maps images (N, 3, S, S) to the first step's deltas (N, P, 4) and objectness logits (N, P, 2)
    and the second step's deltas (N, P, 4) and logits (N, P, classes).
    """

    def __init__(
        self, features: Body, num_classes: int, *, width: int, predictor_width: int, extra: int
    ) -> None:
        super().__init__()
        self.features, self.num_classes = features, num_classes
        channels = list(features.out_channels)
        self.extra = nn.ModuleList()
        while len(channels) < NUM_MAPS:
            self.extra.append(Residual(channels[-1], extra // BOTTLENECK, extra, stride=2))
            channels.append(extra)
        self.transfer = nn.ModuleList(
            nn.Sequential(ConvNormAct(c, width, 3), ConvNorm(width, width, 3)) for c in channels
        )
        self.up = nn.ModuleList(_doubling(width) for _ in channels[1:])
        self.merged = nn.ModuleList(ConvNormAct(width, width, 3) for _ in channels)
        self.arm_blocks = nn.ModuleList(Residual(c, width, predictor_width) for c in channels)
        self.odm_blocks = nn.ModuleList(Residual(width, width, predictor_width) for _ in channels)
        self.arm_deltas = _predictors(predictor_width, 4)
        self.arm_logits = _predictors(predictor_width, 2)
        self.odm_deltas = _predictors(predictor_width, 4)
        self.odm_logits = _predictors(predictor_width, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return both steps' outputs in the order of map, row, column and box."""
        maps = list(self.features(images).values())
        for block in self.extra:
            maps.append(block(maps[-1]))
        arm = [block(x) for block, x in zip(self.arm_blocks, maps, strict=True)]
        pyramid = self._pyramid(maps)
        odm = [block(x) for block, x in zip(self.odm_blocks, pyramid, strict=True)]
        return (
            _joined(self.arm_deltas, arm, 4),
            _joined(self.arm_logits, arm, 2),
            _joined(self.odm_deltas, odm, 4),
            _joined(self.odm_logits, odm, self.num_classes),
        )

    def _pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """Return the merged maps, finest first."""
        merged: list[Tensor] = []
        for level in reversed(range(len(maps))):
            x = self.transfer[level](maps[level])
            if merged:
                x = x + self.up[level](merged[0])
            merged.insert(0, self.merged[level](torch.relu(x)))
        return merged


class RefineDet(Multibox):
    """RefineDet with the losses `refined_boxes`, `objects`, `boxes` and `classes`."""

    per_class, most = 1000, 500

    def losses(self, outputs: tuple[Tensor, ...], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the losses of a batch. The second step is matched with the moved boxes, through
        which no gradient flows.
        """
        arm_deltas, arm_logits, deltas, logits = outputs
        objects = [{**one, "labels": torch.ones_like(one["labels"])} for one in targets]
        first = multibox_loss(arm_deltas, arm_logits, [self.priors] * len(targets), objects)
        moved = list(decode(arm_deltas.detach(), self.priors))
        likely = arm_logits.detach().softmax(dim=2)[..., 1] >= MIN_OBJECT
        second = multibox_loss(deltas, logits, moved, targets, likely)
        return {"refined_boxes": first["boxes"], "objects": first["classes"], **second}

    def detections(self, outputs: tuple[Tensor, ...]) -> list[Detections]:
        """Return the detections of each image."""
        arm_deltas, arm_logits, deltas, logits = outputs
        boxes = decode(deltas, decode(arm_deltas, self.priors))
        likely = arm_logits.softmax(dim=2)[..., 1:] >= MIN_OBJECT
        scores = logits.softmax(dim=2) * likely
        return [detect(*one, self.per_class, self.most) for one in zip(boxes, scores, strict=True)]


def refinedet(
    source: Source | nn.Module,
    num_classes: int,
    *,
    image_size: int = 320,
    width: int = 256,
    predictor_width: int = 1024,
    extra: int = 512,
) -> RefineDet:
    """Build RefineDet for `num_classes` classes without the background.

    `width` is that of the pyramid, `predictor_width` that of the blocks before the predictors, and
    `extra` that of the further maps, of which there are enough for four maps. Raises
    `InvalidValueError` for a network whose first stage has a stride below 4, whose strides do not
    double, and for an image side that is no multiple of 64.
    """
    if image_size < SIDE_MULTIPLE or image_size % SIDE_MULTIPLE:
        raise InvalidValueError(
            f"RefineDet needs images whose side is a multiple of {SIDE_MULTIPLE}, for instance "
            f"320, 384, 448 or 512, not {image_size}: it doubles its coarsest map, which must fit"
        )
    if extra < BOTTLENECK:
        raise InvalidValueError(f"the width extra must be at least {BOTTLENECK}, not {extra}")
    features = body(source, min_stride=MIN_STRIDE)
    strides = list(features.strides)
    if len(strides) > MAX_OWN_STAGES or any(b != 2 * a for a, b in pairwise(strides)):
        raise InvalidValueError(
            f"RefineDet needs at most {MAX_OWN_STAGES} stages of stride {MIN_STRIDE} or more whose "
            f"strides double, not {strides}"
        )
    while len(strides) < NUM_MAPS:
        strides.append(2 * strides[-1])
    network = RefineDetNetwork(
        features, num_classes + 1, width=width, predictor_width=predictor_width, extra=extra
    )
    sides = [SIDE_PER_STRIDE * stride for stride in strides]
    boxes = priors(
        [(image_size // stride,) * 2 for stride in strides],
        [[(side, side), *stretched(side, (2,))] for side in sides],
        strides,
        image_size,
    )
    return RefineDet(network, boxes, image_size, features.mean, features.std)


def _doubling(width: int) -> nn.Sequential:
    """Return a deconvolution that doubles a map exactly, with BatchNorm."""
    return nn.Sequential(nn.ConvTranspose2d(width, width, 2, 2, bias=False), nn.BatchNorm2d(width))


def _predictors(width: int, values: int) -> nn.ModuleList:
    """Return a 3x3 convolution with bias for each map, with `values` outputs a box."""
    layers = [nn.Conv2d(width, BOXES * values, 3, padding=1) for _ in range(NUM_MAPS)]
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.get_parameter("bias"))
    return nn.ModuleList(layers)


def _joined(predictors: nn.ModuleList, maps: Sequence[Tensor], values: int) -> Tensor:
    """Return the predictions of all maps (N, P, values)."""
    pairs = zip(predictors, maps, strict=True)
    return torch.cat([flattened(layer(x), values) for layer, x in pairs], dim=1)
