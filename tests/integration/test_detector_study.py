"""A study of detectors of squares: searched, shown, trained again and fully, and exported."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("torchvision")
pytest.importorskip("PIL")

import nas
from nas.analysis.finals import FinalResult
from nas.cli import main
from nas.cli.study.remeasure import measured_network_of
from nas.core.architecture import Architecture, OsaStage
from nas.core.errors import InvalidValueError, NasError, StudyFileError
from nas.core.measurement import MeasurementPlan
from nas.core.study import DataSpec
from nas.data import resolve
from nas.detection.evaluator.data import BOXES, all_training, train_and_validation
from nas.detection.evaluator.export import holds_trial
from nas.detection.evaluator.trials import DetectorEvaluator, measured_network
from nas.record import Store
from nas.searching.evaluators import StudyContext
from nas.searching.study_file import parse_study

pytestmark = pytest.mark.slow

SPACE = """\
from nas.core.architecture import Attention, PoolPadding, Stem
from nas.core.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CODE,), stem_mid=(8,), stem_out=(8,),
    mid_channels=((8,),) * 4, out_channels=((8, 16),) * 4,
    num_layers=(2, 3), num_blocks=((1,),) * 4, kernel_size=((3,),) * 4,
    residual=(False,), depthwise=(False,), attention=(Attention.NONE,),
    pool_padding=(PoolPadding.SAME,),
)
"""
STUDY = """\
name: squares
space: squares_space:SPACE
sampler: random
evaluator: detector
evaluator_settings: {system: SYSTEM, image_size: 96, options: OPTIONS, augment: flip}
objectives:
  - {metric: box_ap50, reference: 0}
  - {metric: macs, reference: 1 G}
rungs: [{epochs: 1}, {epochs: 2}]
data: {folder: FOLDER}
training: {batch_size: 3}
budget: {trials: 3, fresh: 0}
"""
NETWORK = Architecture(
    stem_channels=(8, 8, 8),
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 4,
)
MASKS = "{width: 16, dense: 16, anchor_per_stride: 4, regions: 16}"


def study_text(folder: Path, system: str = "dsod300", options: str = "{down: 8}") -> str:
    """Return the study file."""
    text = STUDY.replace("SYSTEM", system).replace("OPTIONS", options)
    return text.replace("FOLDER", str(folder))


def of_text(text: str):
    """Return the study, in a shipped space."""
    return parse_study(text.replace("squares_space:SPACE", "osa_detection"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, squares):
    """A folder with the record `nas.db` of a finished search."""
    folder = tmp_path_factory.mktemp("detector-study")
    (folder / "squares_space.py").write_text(SPACE)
    (folder / "study.yaml").write_text(study_text(squares))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NAS_LOCK_DIR", str(folder / "locks"))
        done = CliRunner().invoke(main, ["search", "study.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def run(place, monkeypatch):
    """Run a command beside the record, which must succeed, and return its output."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("NAS_LOCK_DIR", str(place / "locks"))

    def invoke(*arguments):
        done = CliRunner().invoke(main, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


def member(place: Path) -> int:
    """Return the number of a trial of the front."""
    with Store.open(str(place / "nas.db"), read_only=True) as store:
        return store.newest_front("squares").members[0]


def test_every_trial_has_its_rungs_with_average_precisions(place):
    """DSOD gives precisions of boxes from 0 to 1, and none of masks."""
    with Store.open(str(place / "nas.db"), read_only=True) as store:
        trials = store.trials("squares")
        spec = store.study("squares").spec
    assert len(trials) == 3
    for trial in trials:
        assert [rung.epochs for rung in trial.evaluation.rungs] == [1, 2]
        for rung in trial.evaluation.rungs:
            assert set(rung.metrics) == {"box_ap", "box_ap50"}
            assert 0 <= rung.metrics["box_ap"] <= rung.metrics["box_ap50"] <= 1
            assert rung.numerics["image_size"] == 96
    assert spec.modelled.name == "box_ap50"
    assert spec.modelled.shortfall(0.9) == pytest.approx(0.1)
    assert spec.data.validation_images == 5000  # of classification; the split val has its own


def test_a_trial_is_shown_and_trained_again(run, place):
    """Fronts, a trial and new seeds name the average precision in per cent."""
    number = member(place)
    assert "box_ap50" in run("front", "squares")
    assert "box_ap50" in run("show", f"squares:{number}")
    assert "box_ap50" in run("replicate", "squares", "--trial", str(number), "--seeds", "1")
    assert "box_ap50 with other seeds" in run("show", f"squares:{number}")


def test_the_front_is_measured_again_as_detectors(place):
    """`nas remeasure` builds the network of a detector, which gives deltas and logits."""
    with Store.open(str(place / "nas.db"), read_only=True) as store:
        make = measured_network_of(store.study("squares"))
    with torch.no_grad():
        deltas, logits = make(NETWORK)(torch.zeros(1, 3, 96, 96))
    assert (deltas.shape[2], logits.shape[2]) == (4, 2)


def test_a_found_detector_is_trained_fully_and_exported(run, place, squares):
    """The exported folder is one of nas detect, with the weights of the final training."""
    number = member(place)
    before = run("export", "squares", "--trial", str(number), "-o", "brief")
    assert "brief training" in before
    trained = run("train", "squares", "--trial", str(number), "--seeds", "1", "--epochs", "2")
    assert "on 6 test images" in trained
    after = run("export", "squares", "--trial", str(number), "-o", "final")
    assert "on 6 test images" in after
    assert "boxes of decoder.py: found" in after
    shown = run("detect", "evaluate", "final", "--data", str(squares), "--split", "test", "--json")
    with Store.open("nas.db", read_only=True) as store:
        (result,) = store.finals("squares")
        record, trial = store.study("squares"), store.trial("squares", number)
    final = FinalResult(trainings=(result,))
    assert not holds_trial(record, trial, final, place / "brief")
    assert holds_trial(record, trial, None, place / "brief")
    assert holds_trial(record, trial, final, place / "final")
    figures = json.loads(shown)["coco"]
    assert figures["ap50"] == pytest.approx(result.reached.metrics["box_ap50"], abs=1e-6)
    assert result.recipe.training.learning_rate == 0.02
    assert result.recipe.training.batch_size == 3
    study = nas.open("nas.db").study("squares")
    assert (study.export(number, place / "by-api") / "decoder.py").exists()
    detector = study.network(number)
    assert detector.trained
    assert set(detector([torch.rand(3, 96, 96)])[0]) == {"boxes", "labels", "scores"}


def test_masks_have_an_average_precision(squares, tmp_path):
    """Mask R-CNN gives `mask_ap`, which can be an objective."""
    text = study_text(squares / "maps", "mask_rcnn", MASKS).replace("box_ap50", "mask_ap")
    (tmp_path / "squares_space.py").write_text(SPACE)
    (tmp_path / "study.yaml").write_text(
        text.replace("trials: 3", "trials: 1").replace("[{epochs: 1}, {epochs: 2}]", "[{steps: 1}]")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("NAS_LOCK_DIR", str(tmp_path))
        done = CliRunner().invoke(main, ["search", "study.yaml"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "mask_ap" in done.output


def test_the_settings_give_defaults_of_other_keys(squares):
    """The recipe is the system's, and networks are measured at the size of its images."""
    spec = of_text(study_text(squares))
    assert (spec.data.dataset, spec.measurement.image_size) == ("boxes", 96)
    assert (spec.training.batch_size, spec.training.learning_rate) == (3, 0.02)
    assert spec.evaluator_settings["measure"] == "network"
    assert parse_study_again(spec, squares) == spec


def parse_study_again(spec, folder):
    """Return the study of a shorter file with the recorded values."""
    text = study_text(folder).replace(", options: {down: 8}, augment: flip", "")
    text = text.replace("squares_space:SPACE", "osa_detection")
    return parse_study(text, recorded=spec)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("dsod300", "yolo", "evaluator_settings: no 'yolo' in detection systems"),
        ("system: dsod300", "sistem: 1", "evaluator_settings.sistem: unknown key; did you mean s"),
        ("{down: 8}", "{width: 8}", "evaluator_settings: dsod300 has no option 'width'"),
        ("flip", "mixup", "evaluator_settings: augment must be none, flip, ssd, not 'mixup'"),
        ("augment: flip", "measure: gpu", "evaluator_settings: measure must be detector, network"),
        ("evaluator: detector\n", "", "evaluator_settings: the evaluator classification has none"),
        ("box_ap50", "error", "objectives[0].metric: no 'error'"),
    ],
)
def test_a_wrong_setting_is_named(squares, old, new, line):
    """The line has the key, and what would be right."""
    text = study_text(squares).replace(old, new)
    with pytest.raises(StudyFileError) as caught:
        of_text(text)
    assert any(each.startswith(line) for each in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "osa_tiny"}, "none of 8 random networks of the space fits dsod300"),
        ({"measurement": MeasurementPlan(image_size=64)}, "must be that of the detector, 96"),
        ({"data": DataSpec(dataset="boxes", folder="nowhere")}, "has none of these layouts"),
        ({"data": DataSpec(dataset="boxes")}, "boxes need the folder"),
    ],
)
def test_a_study_that_cannot_run_is_refused(squares, tmp_path, changes, message):
    """Nothing is trained."""
    spec = replace(of_text(study_text(squares)), **changes)
    context = StudyContext(spec=spec, artifacts=str(tmp_path), folder=str(tmp_path))
    with pytest.raises(NasError, match=message):
        DetectorEvaluator.prepare(context)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dsod300", "mask_rcnn", "needs masks"),
        ("box_ap50", "mask_ap", "mask_ap needs mask_rcnn"),
        ("{epochs: 2}", "{epochs: 2, image_size: 64}", "a detector has one size"),
        ("batch_size: 3", "precision: bf16", "detectors are trained in fp32"),
        ("batch_size: 3", "cutout: 4", "training.cutout is not for detectors"),
    ],
)
def test_training_that_no_detector_can_follow_is_refused(squares, tmp_path, old, new, message):
    """The error has the key and what would be right."""
    text = study_text(squares).replace("{down: 8}", "{}").replace(old, new)
    context = StudyContext(spec=of_text(text), artifacts=str(tmp_path), folder=str(tmp_path))
    with pytest.raises(InvalidValueError, match=message):
        DetectorEvaluator.prepare(context)


def test_validation_images_without_masks_are_refused(squares, tmp_path):
    """A system with masks needs those of both splits. Nothing is trained."""
    (tmp_path / "images").mkdir()
    shutil.copy(squares / "JPEGImages" / "image0.png", tmp_path / "images" / "a.png")
    for split, shape in (("train", [[10, 10, 40, 10, 40, 40]]), ("val", [])):
        truth = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "segmentation": shape}
        values = {
            "images": [{"id": 1, "file_name": "a.png"}],
            "categories": [{"id": 1, "name": "square"}],
            "annotations": [truth],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(values))
    spec = of_text(study_text(tmp_path, "mask_rcnn", MASKS))
    context = StudyContext(spec=spec, artifacts=str(tmp_path), folder=str(tmp_path))
    with pytest.raises(InvalidValueError, match=r"mask_rcnn needs masks of all .* the split val"):
        DetectorEvaluator.prepare(context)


def test_the_measured_part_is_the_one_that_the_study_names(squares):
    """A detector gives boxes, its network deltas and logits, and a backbone the maps of stages."""
    spec, shapes = of_text(study_text(squares)), {}
    for part in ("detector", "network", "backbone"):
        settings = {**spec.evaluator_settings, "measure": part}
        own = replace(spec, evaluator_settings=settings)
        network = measured_network(own, ("square",), NETWORK)
        with torch.no_grad():
            shapes[part] = network(torch.zeros(1, 3, 96, 96))
    assert set(shapes["detector"][0]) == {"boxes", "labels", "scores"}
    assert [tuple(each.shape[::2]) for each in shapes["network"]] == [(1, 4), (1, 2)]
    assert [each.shape[1] for each in shapes["backbone"]] == [16] * 3


def test_post_processing_is_measured_in_pytorch_only(squares, tmp_path):
    """Another runtime is refused, and `auto` is eager."""
    text = study_text(squares).replace("augment: flip", "measure: detector")
    context = StudyContext(spec=of_text(text), artifacts=str(tmp_path), folder=str(tmp_path))
    assert DetectorEvaluator.prepare(context).runtime == "eager"
    with_onnx = of_text(f"{text}measurement: {{runtime: onnxruntime}}\n")
    with pytest.raises(InvalidValueError, match=r"measurement\.runtime must be eager"):
        DetectorEvaluator.prepare(replace(context, spec=with_onnx))


def test_the_splits_of_a_folder_train_and_judge(squares):
    """Trials train with a part of the split train, and final trainings with train and val."""
    spec = DataSpec(dataset="boxes", folder=str(squares), train_images=4)
    train, validation = train_and_validation(spec, seed=0)
    assert (len(train), len(validation), len(all_training(spec))) == (4, 6, 12)
    assert train_and_validation(spec, seed=0)[0] == train
    assert resolve(spec).spec.validation_images == 6
    assert set(BOXES.file_digests(spec)) == {"train", "val", "test"}
    with pytest.raises(InvalidValueError, match="evaluator: detector"):
        BOXES.load(spec)


def test_a_changed_box_is_another_data_set(squares, tmp_path):
    """Digests depend on boxes and on pixels."""
    shutil.copytree(squares, tmp_path / "copy")
    spec = DataSpec(dataset="boxes", folder=str(tmp_path / "copy"))
    before = BOXES.file_digests(spec)
    assert before == BOXES.file_digests(replace(spec, folder=str(squares)))
    image = tmp_path / "copy" / "JPEGImages" / "image0.png"
    image.write_bytes((tmp_path / "copy" / "JPEGImages" / "image1.png").read_bytes())
    assert all(value != before[split] for split, value in BOXES.file_digests(spec).items())
