"""Matching, loss and detection of detectors with prior boxes (SSD, DSOD, RefineDet).

The rules are those of Caffe's MultiBoxLoss and DetectionOutput, which the paper's detectors use.
Boxes are shares of the image's side. Class 0 is the background.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, box_iou

from nas.detection.boxes import encode

Target = dict[str, Tensor]
"""The truths of one image: `boxes` (T, 4) and `labels` (T,), from 1."""
Detections = dict[str, Tensor]
"""`boxes` (D, 4), `labels` (D,) and `scores` (D,) of one image, by falling score."""

MIN_OVERLAP = 0.5
"""Smallest intersection over union at which a prior has the class of a truth."""
MIN_BIPARTITE_OVERLAP = 1e-6
"""A truth takes the best prior for itself if they overlap more than this."""
NEGATIVES_PER_POSITIVE = 3
MIN_SCORE = 0.01
NMS_OVERLAP = 0.45


def match(boxes: Tensor, truths: Tensor) -> Tensor:
    """Return the truth of each prior box (P,), -1 for none; IoU 0.5 is enough.

    Before that each truth gets its own box: the pair of largest IoU among all boxes and truths that
    are not in a pair, and so on.
    """
    if not len(truths):
        return torch.full((len(boxes),), -1, dtype=torch.int64, device=boxes.device)
    overlap = box_iou(boxes, truths)  # (P, T)
    best, truth = overlap.max(dim=1)
    truth = torch.where(best >= MIN_OVERLAP, truth, -1)
    for _ in range(len(truths)):
        place = int(overlap.argmax())
        box, owner = divmod(place, len(truths))
        if overlap[box, owner] <= MIN_BIPARTITE_OVERLAP:
            break
        truth[box] = owner
        overlap[box], overlap[:, owner] = -1, -1
    return truth


def multibox_loss(
    deltas: Tensor,
    logits: Tensor,
    boxes: Sequence[Tensor],
    targets: Sequence[Target],
    candidates: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the losses `boxes` and `classes` of a batch, per matched prior.

    `deltas` (N, P, 4) and `logits` (N, P, classes) belong to the prior boxes (P, 4) of each image.
    Negatives are the unmatched priors of largest loss, three for each matched one, among
    `candidates` (N, P) if given. An image without truths adds nothing.
    """
    pairs = [match(here, target["boxes"]) for here, target in zip(boxes, targets, strict=True)]
    truth = torch.stack(pairs)  # (N, P)
    positive = truth >= 0
    aims, labels = torch.zeros_like(deltas), torch.zeros_like(truth)
    for i, target in enumerate(targets):
        chosen = positive[i]
        owners = truth[i, chosen]
        aims[i, chosen] = encode(target["boxes"][owners], boxes[i][chosen])
        labels[i, chosen] = target["labels"][owners]
    entropy = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    entropy = entropy.view_as(truth)
    negative = _hardest(entropy.detach(), positive, candidates)
    count = positive.sum().clamp(min=1)
    distance = F.smooth_l1_loss(deltas[positive], aims[positive], reduction="sum")
    return {
        "boxes": distance / count,
        "classes": (entropy * (positive | negative)).sum() / count,
    }


def _hardest(entropy: Tensor, positive: Tensor, candidates: Tensor | None) -> Tensor:
    """Return the negatives (N, P) of largest cross-entropy, at most three for each positive."""
    allowed = ~positive if candidates is None else ~positive & candidates
    ranked = (
        entropy.masked_fill(~allowed, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
    )
    return allowed & (ranked < NEGATIVES_PER_POSITIVE * positive.sum(dim=1, keepdim=True))


def detect(boxes: Tensor, scores: Tensor, per_class: int, most: int) -> Detections:
    """Return the detections of one image from boxes (P, 4) and scores (P, classes).

    Each class keeps at most `per_class` boxes before the suppression of overlapping ones. Boxes are
    not clipped.
    """
    scores = scores[:, 1:]
    values, places = scores.topk(min(per_class, len(scores)), dim=0)  # (K, classes - 1)
    labels = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(values)
    kept = values > MIN_SCORE
    values, places, labels = values[kept], places[kept], labels[kept]
    order = batched_nms(boxes[places], values, labels, NMS_OVERLAP)[:most]
    return {"boxes": boxes[places[order]], "labels": labels[order], "scores": values[order]}


class Multibox(nn.Module):
    """Base of detectors with prior boxes, for images resized to a square of `image_size` pixels.

    `network` maps normalised images (N, 3, S, S) to its raw outputs. In training a detector maps
    images and targets, whose boxes are in pixels, to losses; otherwise it maps images to
    detections in pixels. Images are RGB (3, H, W) from 0 to 1.
    """

    per_class: int
    """Largest number of boxes of one class before suppression."""
    most: int
    """Largest number of detections of one image."""
    priors: Tensor

    def __init__(
        self,
        network: nn.Module,
        priors: Tensor,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.network, self.image_size = network, image_size
        self.register_buffer("priors", priors, persistent=False)
        self.transform = GeneralizedRCNNTransform(
            image_size, image_size, list(mean), list(std), 1, (image_size, image_size)
        )

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Return the losses in training, the detections of each image otherwise."""
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, resized = self.transform(list(images), targets)
        outputs = self.network(batch.tensors)
        if self.training:
            shares = [{**one, "boxes": one["boxes"] / self.image_size} for one in resized]
            return self.losses(outputs, shares)
        found = self.detections(outputs)
        for one in found:
            one["boxes"] = one["boxes"] * self.image_size
        finished: list[Detections] = self.transform.postprocess(found, batch.image_sizes, sizes)
        return finished

    def losses(self, outputs: tuple[Tensor, ...], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return the named losses of a batch; the boxes of targets are shares of the image."""
        raise NotImplementedError

    def detections(self, outputs: tuple[Tensor, ...]) -> list[Detections]:
        """Return the detections of each image, with boxes as shares of the image."""
        raise NotImplementedError
