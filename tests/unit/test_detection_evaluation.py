"""Average precision by VOC's and COCO's rules."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import tensor

pytest.importorskip("torchvision")
pytest.importorskip("faster_coco_eval")

from nas.detection.comparison import compare, weighted_ap50
from nas.detection.evaluation import average_precision, evaluate, evaluate_scenes, voc_hits
from nas.detection.scenes import Scene, Scenes, Truth


def truth(*boxes, label=1):
    """Return the truths of one image."""
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.full((len(boxes),), label),
    }


def found(*rows, label=1):
    """Return the detections of one image: score and box."""
    boxes = truth(*(box for _, box in rows), label=label)
    return {**boxes, "scores": torch.tensor([score for score, _ in rows])}


def hits_of(detections, truths, difficult):
    """Return which detections of the first class are true, and the number of truths."""
    result = voc_hits(detections, truths, difficult, 1)
    assert len(result.images) == len(result.hits)
    return result.hits, result.truths.sum()


NOT_DIFFICULT = SimpleNamespace(difficult=False)
SQUARE, SHIFTED, AWAY = (0, 0, 10, 10), (0, 0, 10, 8), (50, 50, 60, 60)


def test_golden_precision():
    """Five detections of four truths have the values computed by hand."""
    hits = np.array([True, False, True, False, True])
    voc07, voc10, curve = average_precision(hits, 4)
    assert voc07 == pytest.approx(6.2 / 11)
    assert voc10 == pytest.approx(0.566667, abs=1e-6)
    assert [curve[0], curve[25], curve[26], curve[75], curve[76]] == [
        1.0,
        1.0,
        pytest.approx(2 / 3),
        0.6,
        0.0,
    ]


def test_no_detections_have_no_precision():
    """Without detections the precision is 0."""
    assert average_precision(np.zeros(0, dtype=bool), 3)[:2] == (0.0, 0.0)


def test_a_truth_counts_once():
    """The second detection of the same truth is false, and so is one that overlaps too little."""
    rows = [(0.9, SQUARE), (0.8, SHIFTED), (0.7, AWAY)]
    hits, count = hits_of([found(*rows)], [truth(SQUARE)], [[False]])
    assert (hits.tolist(), count) == ([True, False, False], 1)


def test_half_an_overlap_is_true():
    """An overlap of exactly 0.5 is enough."""
    hits, _ = hits_of([found((0.9, (0, 0, 10, 5)))], [truth(SQUARE)], [[False]])
    assert hits.tolist() == [True]


def test_difficult_truths_do_not_count():
    """Neither the truth nor its detection counts."""
    hits, count = hits_of(
        [found((0.9, SQUARE), (0.8, AWAY))], [truth(SQUARE, AWAY)], [[True, False]]
    )
    assert (hits.tolist(), count) == ([True], 1)


def test_detections_are_ranked_over_all_images():
    """The false detection of another image comes first by its score."""
    detections = [found((0.5, SQUARE)), found((0.9, AWAY))]
    hits, count = hits_of(detections, [truth(SQUARE), truth(SQUARE)], [[False], [False]])
    assert (hits.tolist(), count) == ([False, True], 2)


def scenes_of(*targets):
    """Return scenes that have only truths, as a comparison reads them."""
    return [
        SimpleNamespace(
            reference=lambda t=t: t, truths=[NOT_DIFFICULT] * len(t["labels"]), crowds=[]
        )
        for t in targets
    ]


class FewScenes(list):
    """Scenes of one class."""

    classes = ("cat",)


def test_a_comparison_is_paired_over_the_images():
    """Of two detectors that find the same objects but one, the difference is that object's share.
    Its interval holds 0 differences, of samples without that image, and is below 0 nowhere.
    """
    scenes = FewScenes(scenes_of(*[truth(SQUARE)] * 20))
    better = [found((0.9, SQUARE))] * 20
    worse = [*better[:-1], found()]
    result = compare([better, better], [worse], scenes)
    assert result.first == (1.0, 1.0)
    assert result.second == (pytest.approx(0.95),)
    assert result.difference == pytest.approx(0.05)
    assert (result.low, result.high) == (0.0, pytest.approx(0.15))
    same = compare([worse], [worse], scenes)
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)


def test_weights_count_images_as_often_as_they_say():
    """An image of weight 2 is the same as the image twice."""
    targets = [truth(SQUARE), truth(SQUARE, AWAY)]
    detections = [found((0.5, SQUARE), (0.8, AWAY)), found((0.9, SQUARE))]
    none = [[False], [False, False]]
    doubled = voc_hits([*detections, detections[1]], [*targets, targets[1]], [*none, none[1]], 1)
    _, area, _ = average_precision(doubled.hits, int(doubled.truths.sum()))
    weighted = weighted_ap50([voc_hits(detections, targets, none, 1)], np.array([1, 2]))
    assert weighted == pytest.approx(area)


def test_perfect_detections_and_classes():
    """Perfect detections have precision 1 by every rule. A class without truths has none."""
    targets = [truth(SQUARE, AWAY), truth(AWAY, label=2)]
    detections = [found((0.9, SQUARE), (0.8, AWAY)), found((0.9, AWAY), label=2)]
    result = evaluate(detections, targets, ["cat", "dog", "cow"])
    assert (result.voc07, result.voc10) == (1.0, 1.0)
    assert result.coco["ap"] == pytest.approx(1.0)
    assert result.coco["ap_large"] is None
    assert [each.truths for each in result.classes] == [2, 1, 0]
    assert result.classes[1].coco == pytest.approx(1.0)
    assert (result.classes[2].voc07, result.classes[2].coco) == (None, None)


def test_masks_are_judged_by_their_pixels():
    """Masks of the wrong pixels have no precision, though their boxes are right."""
    right = torch.zeros(1, 60, 60, dtype=torch.uint8)
    right[0, :10, :10] = 1
    wrong = torch.zeros_like(right)
    wrong[0, 30:40, 30:40] = 1
    target = {**truth(SQUARE), "masks": right}
    for masks, expected in ((right, 1.0), (wrong, 0.0)):
        result = evaluate([{**found((0.9, SQUARE)), "masks": masks}], [target], ["cat"])
        assert result.coco["ap"] == pytest.approx(1.0)
        assert result.coco_masks["ap"] == pytest.approx(expected)


def with_mask(annotation, *corners):
    """Return the annotation of an image of 100 pixels with one rectangular mask for each object."""
    masks = torch.zeros(len(corners), 100, 100, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, corners, strict=True):
        mask[y0:y1, x0:x1] = 1
    return {**annotation, "masks": masks}


def test_detections_in_a_crowd_count_neither_way():
    """The crowd is no truth to find. Inside of it a detection is true if it finds another truth."""
    crowd, inside, outside = (0, 0, 60, 60), (40, 40, 50, 50), (80, 80, 90, 90)
    target = {
        **with_mask(truth(SQUARE, crowd), SQUARE, crowd),
        "crowd": tensor([False, True]),
    }
    rows = [(0.9, inside), (0.8, SQUARE), (0.7, SHIFTED), (0.6, outside)]
    detections = [with_mask(found(*rows), *(box for _, box in rows))]
    hits, count = hits_of(detections, [target], [[False, False]])
    assert (hits.tolist(), count) == ([True, False], 1)
    result = evaluate(detections, [target], ["cat"])
    for figures in (result.coco, result.coco_masks):
        assert (figures["ap"], figures["ap50"]) == (pytest.approx(1.0), pytest.approx(1.0))
    alone = {**truth(crowd), "crowd": tensor([True])}
    assert evaluate([found((0.9, inside))], [alone], ["cat"]).coco["ap"] is None


def test_crowds_of_scenes_are_compared_with():
    """Figures of scenes and comparisons of detectors ignore detections in crowds."""
    scene = Scene(
        name="a",
        path=Path("a.png"),
        height=100,
        width=100,
        truths=(Truth(label=1, box=SQUARE),),
        crowds=(Truth(label=1, box=(20, 20, 90, 90)),),
    )
    scenes, detections = Scenes(("cat",), (scene,)), [found((0.9, AWAY), (0.8, SQUARE))]
    result = evaluate_scenes(detections, scenes)
    assert (result.voc10, result.classes[0].truths) == (1.0, 1)
    assert result.coco["ap"] == pytest.approx(1.0)
    assert compare([detections], [detections], scenes).first == (1.0,)


def test_the_stated_area_says_how_large_a_truth_is():
    """A box of 1,600 pixels is of medium size, and small if its file states 900 pixels."""
    box = (0, 0, 40, 40)
    for area, small, medium in ((np.nan, None, 1.0), (900, 1.0, None)):
        target = {**truth(box), "area": tensor([area])}
        figures = evaluate([found((0.9, box))], [target], ["cat"]).coco
        assert (figures["ap_small"], figures["ap_medium"]) == (small, medium)


def test_the_area_of_a_mask_is_that_of_its_pixels():
    """A false mask of 900 pixels is small, though its box has 1,600: half of the small detections
    are true at every recall.
    """
    detections = with_mask(found((0.9, (50, 50, 90, 90)), (0.8, SQUARE)), (50, 50, 80, 80), SQUARE)
    result = evaluate([detections], [with_mask(truth(SQUARE), SQUARE)], ["cat"])
    assert result.coco["ap_small"] == pytest.approx(1.0)
    assert result.coco_masks["ap_small"] == pytest.approx(0.5)


def test_no_detections_at_all():
    """Nothing found is a precision of 0 in every figure."""
    result = evaluate([found()], [truth(SQUARE)], ["cat"])
    assert (result.voc07, result.coco["ap"]) == (0.0, 0.0)


def test_more_than_a_hundred_detections_count():
    """COCO's limit of detections grows with the truths of an image."""
    boxes = [(x, y, x + 8, y + 8) for x in range(0, 120, 10) for y in range(0, 100, 10)]
    result = evaluate(
        [found(*((0.9 - i / 1000, box) for i, box in enumerate(boxes)))], [truth(*boxes)], ["cell"]
    )
    assert result.coco["ap"] == pytest.approx(1.0)
    assert tensor(len(boxes)) == 120
