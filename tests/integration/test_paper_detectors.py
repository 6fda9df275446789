"""The paper's three detectors overfit a handful of real images: all of their parts work together.

A narrow OSA network, narrow necks and heads, no augmentation. NAS_TEST_DETECTION names the folder
that holds `bccd` and `nuclei`. The figures are those of one run (seed 0, one thread); the bounds
leave room for another machine's last bits.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from nas.core.architecture import Architecture, OsaStage

pytest.importorskip("torchvision")
pytest.importorskip("PIL")
from torchvision.ops import box_iou

from nas.detection.evaluation import detect_all, evaluate_scenes
from nas.detection.features import MEAN, STD
from nas.detection.scenes import Scenes, read_scenes
from nas.detection.systems import DetectorSpec, recipe_for
from nas.detection.training import train_detector

pytestmark = [pytest.mark.slow, pytest.mark.long]

NETWORK = Architecture(
    stem_channels=(16, 16, 32),
    stages=tuple(
        OsaStage(mid_channels=mid, out_channels=out, num_layers=3)
        for mid, out in ((16, 32), (24, 64), (32, 96), (40, 128))
    ),
)
MIN_SCORE = MIN_OVERLAP = 0.5


def few(data: str, count: int) -> Scenes:
    """Return the first images of the training split."""
    folder = Path(os.environ.get("NAS_TEST_DETECTION", "")) / data
    if "NAS_TEST_DETECTION" not in os.environ or not folder.is_dir():
        pytest.skip(f"NAS_TEST_DETECTION names no folder with {data}")
    scenes = read_scenes(folder, "train")
    return Scenes(scenes.classes, scenes.scenes[:count])


def overfit(scenes: Scenes, folder: Path, **values):
    """Train on all images in every step, and return the detections of the same images."""
    steps, rate = values.pop("steps"), values.pop("rate")
    recipe = recipe_for(values["system"], epochs=steps, batch_size=len(scenes), learning_rate=rate)
    spec = DetectorSpec(
        architecture=NETWORK,
        classes=scenes.classes,
        mean=MEAN,
        std=STD,
        recipe=replace(recipe, average=0.9),
        augment="none",
        **values,
    )
    return detect_all(train_detector(spec, scenes, folder), scenes)


def precision_and_recall(detections, scenes):
    """Return the shares of detections and of truths that have a partner of overlap 0.5."""
    right = found = present = detected = 0
    for detection, scene in zip(detections, scenes, strict=True):
        sure = detection["scores"] > MIN_SCORE
        overlap = box_iou(detection["boxes"][sure], scene.target()["boxes"]) >= MIN_OVERLAP
        right += int(overlap.any(1).sum())
        found += int(overlap.any(0).sum())
        detected += int(sure.sum())
        present += len(scene.truths)
    return right / max(detected, 1), found / present


def test_dsod_overfits(tmp_path):
    """DSOD finds nearly all of the cells of four small images: precision 1.000, recall .915."""
    scenes = few("bccd", 4)
    found = overfit(
        scenes,
        tmp_path / "dsod",
        system="dsod300",
        image_size=160,
        options={"down": 64},
        steps=100,
        rate=0.04,
    )
    precision, recall = precision_and_recall(found, scenes)
    print(f"precision {precision:.3f}, recall {recall:.3f}")  # noqa: T201 - shown by pytest -s
    assert precision > 0.85
    assert recall > 0.8


def test_refinedet_overfits(tmp_path):
    """RefineDet finds the cells of three images, and nothing else: precision 1.000, recall .980."""
    scenes = few("bccd", 3)
    found = overfit(
        scenes,
        tmp_path / "refinedet",
        system="refinedet320",
        image_size=256,
        options={"width": 64, "predictor_width": 128, "extra": 128},
        steps=100,
        rate=0.02,
    )
    precision, recall = precision_and_recall(found, scenes)
    print(f"precision {precision:.3f}, recall {recall:.3f}")  # noqa: T201 - shown by pytest -s
    assert precision > 0.9
    assert recall > 0.9


def test_mask_rcnn_overfits(tmp_path):
    """Mask R-CNN finds most nuclei of two images, with their masks: recall .905, mask AP50 .851."""
    scenes = few("nuclei", 2)
    found = overfit(
        scenes,
        tmp_path / "mask",
        system="mask_rcnn",
        image_size=256,
        options={"width": 64, "dense": 256, "anchor_per_stride": 2, "regions": 64},
        steps=60,
        rate=0.02,
    )
    precision, recall = precision_and_recall(found, scenes)
    figures = evaluate_scenes(found, scenes)
    mask_ap50 = figures.coco_masks["ap50"]
    print(f"precision {precision:.3f}, recall {recall:.3f}, masks {mask_ap50:.3f}")  # noqa: T201
    assert recall > 0.75
    assert mask_ap50 > 0.65
