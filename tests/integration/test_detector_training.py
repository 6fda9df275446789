"""Short trainings of detectors from random weights on blood cells (BCCD), by `nas detect`.

The data set (MIT licence) has 205 images of three classes to train on, 87 to validate and 72 to
test, of 640 x 480 pixels. NAS_TEST_DETECTION names the folder that holds `bccd`.
"""

import os
from pathlib import Path

import pytest

from nas.core.architecture import Architecture, OsaStage

pytest.importorskip("torchvision")
pytest.importorskip("faster_coco_eval")
pytest.importorskip("PIL")

from nas.detection.evaluation import detect_all, evaluate_scenes
from nas.detection.features import MEAN, STD
from nas.detection.scenes import read_scenes
from nas.detection.systems import DetectorSpec, recipe_for
from nas.detection.training import train_detector

NETWORK = Architecture(
    stem_channels=(16, 16, 32),
    stages=tuple(
        OsaStage(mid_channels=mid, out_channels=out, num_layers=layers)
        for mid, out, layers in ((16, 48, 2), (32, 96, 3), (48, 128, 3), (64, 192, 3))
    ),
)
SIDE, RATE = 128, 0.02
MIN_AP50 = 0.46
"""Mean of five seeds less three of their standard deviations: .553, .565, .529, .569 and .502."""


@pytest.fixture(scope="module")
def bccd():
    """The folder with the images."""
    folder = Path(os.environ.get("NAS_TEST_DETECTION", "")) / "bccd"
    if "NAS_TEST_DETECTION" not in os.environ or not folder.is_dir():
        pytest.skip("NAS_TEST_DETECTION names no folder with bccd")
    return folder


def test_the_splits_are_those_published(bccd):
    """There are 292 images to train and validate on and 72 to test on, with 4,888 objects, of which
    two without an area are left out.
    """
    splits = {name: read_scenes(bccd, name) for name in ("train", "val", "trainval", "test")}
    assert [len(scenes) for scenes in splits.values()] == [205, 87, 292, 72]
    names = [{scene.name for scene in splits[name]} for name in ("train", "val", "test")]
    assert len(set.union(*names)) == 364
    objects = [len(scene.truths) for name in ("trainval", "test") for scene in splits[name]]
    assert sum(objects) == 4155 + 372 + 361 - 2


@pytest.mark.slow
@pytest.mark.long
def test_dsod_learns_to_find_cells(bccd, tmp_path):
    """After four epochs, AP50 on the validation images is that of other seeds: 16 s on one core."""
    train, validation = read_scenes(bccd, "train"), read_scenes(bccd, "val")
    spec = DetectorSpec(
        system="dsod300",
        architecture=NETWORK,
        classes=train.classes,
        image_size=SIDE,
        mean=MEAN,
        std=STD,
        recipe=recipe_for("dsod300", epochs=4, learning_rate=RATE),
        augment="flip",
        seed=int(os.environ.get("NAS_TEST_SEED", "0")),
    )
    detector = train_detector(spec, train, tmp_path / "dsod", threads=1)
    figures = evaluate_scenes(detect_all(detector, validation), validation).coco
    print(f"AP {figures['ap']:.3f}, AP50 {figures['ap50']:.3f}")  # noqa: T201 - shown by pytest -s
    assert figures["ap50"] > MIN_AP50
