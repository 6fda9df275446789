"""Boxes, matching, losses and detections of the detectors with prior boxes.

The golden values are those of Caffe's functions, computed by hand or by an independent prototype.
"""

import math

import pytest
import torch
from torch import Tensor, tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit

pytest.importorskip("torchvision")
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from nas.core.architecture import Architecture, OsaStage
from nas.detection import boxes as b
from nas.detection.dsod import RATIOS, dsod
from nas.detection.multibox import detect, match, multibox_loss
from nas.detection.refinedet import refinedet

STEPS = (8, 16, 32, 64, 100, 300)
"""Steps of the original DSOD, in pixels."""


def dsod_priors(maps):
    """Return DSOD's boxes at 300 pixels, as shares of the image."""
    sizes = b.ssd_sizes(6, 300)
    sides = [b.ssd_sides(*pair, r) for *pair, r in zip(sizes, sizes[1:], RATIOS, strict=False)]
    return b.priors([(side, side) for side in maps], sides, STEPS, 300)


def refinedet_priors():
    """Return RefineDet's boxes at 320 pixels, as shares of the image."""
    sides = [[(4 * s, 4 * s), *b.stretched(4 * s, (2,))] for s in (8, 16, 32, 64)]
    return b.priors([(320 // s, 320 // s) for s in (8, 16, 32, 64)], sides, (8, 16, 32, 64), 320)


class TestPriors:
    """Prior boxes of the two systems."""

    def test_sizes(self):
        """Sizes grow in steps of 17 % of the image."""
        assert b.ssd_sizes(6, 300) == [30, 60, 111, 162, 213, 264, 315]
        assert b.ssd_sizes(2, 300) == [30, 60, 270]

    @pytest.mark.parametrize(
        ("maps", "count", "area", "width"),
        [
            ((38, 19, 10, 5, 3, 2), 8744, 337.802, 1521.553),
            ((37, 18, 9, 5, 3, 2), 8108, 307.112, 1390.613),
        ],
    )
    def test_dsod(self, maps, count, area, width):
        """The boxes of DSOD have their number, their sums, and the bits of torchvision's."""
        boxes = dsod_priors(maps)
        sides = boxes[:, 2:] - boxes[:, :2]
        assert len(boxes) == count
        assert float(sides.prod(1).sum()) == pytest.approx(area, abs=1e-3)
        assert float(sides[:, 0].sum()) == pytest.approx(width, abs=1e-3)
        generator = DefaultBoxGenerator(
            [list(ratios) for ratios in RATIOS],
            scales=[0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.05],
            steps=list(STEPS),
            clip=False,
        )
        features = [torch.zeros(1, 1, side, side) for side in maps]
        (theirs,) = generator(ImageList(torch.zeros(1, 3, 300, 300), [(300, 300)]), features)
        torch.testing.assert_close(boxes, theirs / 300, atol=1e-6, rtol=0)

    def test_first_boxes_of_dsod(self):
        """A cell has two squares, then a lying and a standing box."""
        boxes = dsod_priors((38, 19, 10, 5, 3, 2)) * 300
        expected = [
            (-11, -11, 19, 19),
            (-17.2132, -17.2132, 25.2132, 25.2132),
            (-17.2132, -6.6066, 25.2132, 14.6066),
            (-6.6066, -17.2132, 14.6066, 25.2132),
        ]
        torch.testing.assert_close(boxes[:4], tensor(expected), atol=1e-3, rtol=0)
        second = tensor([-22.0, -22.0, 38.0, 38.0])
        torch.testing.assert_close(boxes[38 * 38 * 4], second, atol=1e-3, rtol=0)

    def test_refinedet(self):
        """The boxes of RefineDet have their number, their sums and their order."""
        boxes = refinedet_priors()
        sides = boxes[:, 2:] - boxes[:, :2]
        assert len(boxes) == 6375
        assert float(sides.prod(1).sum()) == pytest.approx(192.0, abs=1e-3)
        assert float(sides[:, 0].sum()) == pytest.approx(936.396, abs=1e-3)
        expected = [
            (-12, -12, 20, 20),
            (-18.6274, -7.3137, 26.6274, 15.3137),
            (-7.3137, -18.6274, 15.3137, 26.6274),
        ]
        torch.testing.assert_close(boxes[:3] * 320, tensor(expected), atol=1e-3, rtol=0)
        last = tensor([160.0, 160.0, 416.0, 416.0])
        torch.testing.assert_close(boxes[-3] * 320, last, atol=1e-3, rtol=0)

    def test_a_detector_has_these_boxes(self):
        """RefineDet has them whole. DSOD has them but for the centres of its coarse maps."""
        narrow = Architecture(
            stem_channels=(8, 8, 8),
            stages=(OsaStage(mid_channels=8, out_channels=8, num_layers=1),) * 4,
        )
        detector = refinedet(narrow, 3, width=8, predictor_width=8, extra=8)
        torch.testing.assert_close(detector.priors, refinedet_priors())
        own = dsod(narrow, 3).priors
        ours, theirs = own[:, 2:] - own[:, :2], dsod_priors((37, 18, 9, 5, 3, 2))
        torch.testing.assert_close(ours, theirs[:, 2:] - theirs[:, :2])
        assert 0 < own[-1].mean() < 1


class TestCoding:
    """Boxes as offsets from priors."""

    def test_golden_values(self):
        """A known box has known targets, and a known offset leads to a known box."""
        prior, truth = tensor([0.1, 0.1, 0.5, 0.5]), tensor([0.2, 0.1, 0.6, 0.7])
        expected = tensor([2.5, 2.5, 0, 2.0273])
        torch.testing.assert_close(b.encode(truth, prior), expected, atol=1e-4, rtol=0)
        decoded = b.decode(tensor([1, -1, 0.5, 0.25]), prior)
        expected = tensor([0.1190, 0.0497, 0.5610, 0.4703])
        torch.testing.assert_close(decoded, expected, atol=1e-4, rtol=0)
        twice = b.decode(tensor([0.5, 0.5, -0.5, 0]), decoded)
        expected = tensor([0.1621, 0.0708, 0.5621, 0.4913])
        torch.testing.assert_close(twice, expected, atol=1e-4, rtol=0)

    def test_decoding_inverts_encoding(self):
        """Random boxes come back."""
        random = torch.Generator().manual_seed(0)
        corner, side = (
            torch.rand(2, 500, 2, generator=random),
            torch.rand(2, 500, 2, generator=random),
        )
        boxes, at = torch.cat([corner, corner + side + 0.05], dim=2)
        torch.testing.assert_close(b.decode(b.encode(boxes, at), at), boxes, atol=1e-5, rtol=0)


def literal_match(boxes: Tensor, truths: Tensor) -> list[int]:
    """Match as Caffe's loops do."""
    overlap = box_iou(boxes, truths)
    found = [-1] * len(boxes)
    free = set(range(len(truths)))
    while free:
        pairs = [
            (float(overlap[i, j]), -i, -j) for i in range(len(boxes)) for j in free if found[i] < 0
        ]
        best, i, j = max(pairs)
        if best <= 1e-6:
            break
        found[-i] = -j
        free.remove(-j)
    for i, row in enumerate(overlap):
        if found[i] < 0 and row.max() >= 0.5:
            found[i] = int(row.argmax())
    return found


class TestMatching:
    """Priors and their truths."""

    def test_every_truth_gets_a_prior(self):
        """The first truth has the first prior, and the second truth takes the third one, although
        it overlaps more with the first.
        """
        boxes = tensor([[0, 0, 0.4, 0.4], [0.6, 0.6, 1, 1], [0.1, 0.1, 0.5, 0.5]])
        truths = tensor([[0, 0, 0.4, 0.4], [0.02, 0.02, 0.42, 0.42]])
        assert match(boxes, truths).tolist() == [0, -1, 1]

    def test_half_an_overlap_is_enough(self):
        """A second prior with an IoU of exactly 0.5 is positive."""
        boxes = tensor([[0.0, 0, 1, 1], [0, 0, 1, 0.5], [0, 0, 1, 0.49]])
        assert match(boxes, boxes[:1]).tolist() == [0, 0, -1]

    def test_no_truths(self):
        """Without truths nothing is matched."""
        assert match(torch.rand(3, 4), torch.zeros(0, 4)).tolist() == [-1, -1, -1]

    def test_it_equals_literal_loops(self):
        """On random images the matching is that of Caffe's loops."""
        random = torch.Generator().manual_seed(0)
        for _ in range(30):
            corner = torch.rand(60, 2, generator=random)
            boxes = torch.cat([corner, corner + 0.1 + torch.rand(60, 2, generator=random)], dim=1)
            assert match(boxes[6:], boxes[:6]).tolist() == literal_match(boxes[6:], boxes[:6])


class TestLoss:
    """The loss of matched boxes and of the hardest negatives."""

    PRIORS = tensor([[i / 10, 0, i / 10 + 0.1, 0.1] for i in range(10)])

    def target(self, *places):
        """Return truths of class 1 that lie on these priors."""
        return {
            "boxes": self.PRIORS[list(places)],
            "labels": torch.ones(len(places), dtype=torch.int64),
        }

    def test_one_positive_takes_three_negatives(self):
        """The loss of classes has one positive and the three worst of nine negatives."""
        logits = torch.zeros(1, 10, 2)
        logits[0, :, 1] = torch.arange(10).float()
        losses = multibox_loss(torch.zeros(1, 10, 4), logits, [self.PRIORS], [self.target(4)])
        labels = torch.zeros(10, dtype=torch.int64)
        labels[4] = 1
        entropy = F.cross_entropy(logits[0], labels, reduction="none")
        expected = entropy[[4, 9, 8, 7]].sum()
        torch.testing.assert_close(losses["classes"], expected)
        assert losses["boxes"] == 0

    def test_candidates_limit_negatives_only(self):
        """Positives stay if they are no candidates, and other priors do not become negatives."""
        logits = torch.zeros(1, 10, 2)
        candidates = torch.zeros(1, 10, dtype=torch.bool)
        candidates[0, 2] = True
        losses = multibox_loss(
            torch.zeros(1, 10, 4), logits, [self.PRIORS], [self.target(4)], candidates
        )
        assert float(losses["classes"]) == pytest.approx(2 * math.log(2))

    def test_an_image_without_truths_adds_nothing(self):
        """The losses of such an image are 0 with finite gradients."""
        deltas, logits = torch.zeros(2, 10, 4, requires_grad=True), torch.rand(2, 10, 2)
        logits.requires_grad_()
        both = multibox_loss(deltas, logits, [self.PRIORS] * 2, [self.target(4), self.target()])
        one = multibox_loss(deltas[:1], logits[:1], [self.PRIORS], [self.target(4)])
        assert both == one
        none = multibox_loss(deltas[1:], logits[1:], [self.PRIORS], [self.target()])
        assert sum(none.values()) == 0
        sum(none.values()).backward()
        assert logits.grad.isfinite().all()

    def test_boxes_are_smooth_l1_per_positive(self):
        """A delta of 2 in each of four coordinates costs 1.5 each."""
        deltas = torch.full((1, 10, 4), 2.0)
        losses = multibox_loss(deltas, torch.zeros(1, 10, 2), [self.PRIORS], [self.target(1, 4)])
        assert float(losses["boxes"]) == pytest.approx(6.0)


class TestDetections:
    """Scores and suppression."""

    def test_overlapping_boxes_are_suppressed_within_a_class(self):
        """The second box overlaps with the first one of the same class. The last score is low."""
        boxes = tensor([[0, 0, 1, 1], [0, 0, 1, 0.9], [0, 0, 1, 0.8], [0.5, 0.5, 1, 1]])
        scores = tensor([[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [0.3, 0.0, 0.7], [0.99, 0.005, 0.005]])
        found = detect(boxes, scores, 400, 200)
        assert found["labels"].tolist() == [1, 2]
        torch.testing.assert_close(found["boxes"], boxes[[0, 2]])
        assert len(detect(boxes, scores, 400, 1)["scores"]) == 1
