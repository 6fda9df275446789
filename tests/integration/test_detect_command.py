"""`nas detect`: train, evaluate, measure and export a small detector on generated squares."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from output_schemas import differences
from torch import nn

from nas.cli import main
from nas.core.architecture import Architecture, OsaStage

pytest.importorskip("torchvision")
pytest.importorskip("PIL")

from nas.core.errors import InvalidValueError, TrialFailedError
from nas.detection.features import Features
from nas.detection.scenes import read_scenes
from nas.detection.systems import (
    DESCRIPTION,
    PART_FILE,
    WEIGHTS,
    DetectorSpec,
    TrainedDetector,
    recipe_for,
)
from nas.detection.training import CHECKPOINT, DetectorTrainer, train_detector
from nas.measuring import session
from nas.measuring.methods.certify import Cycles
from nas.training.checkpoint import Checkpoint, write_checkpoint

pytestmark = pytest.mark.slow

SIDE = 96
NETWORK = Architecture(
    stem_channels=(8, 8, 8),
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=2),) * 4,
)
SIZES = {
    "dsod300": ("--size", "96", "--option", "down=8"),
    "refinedet320": (
        *("--size", "64", "--option", "width=16"),
        *("--option", "predictor_width=16", "--option", "extra=16"),
    ),
}


@pytest.fixture
def data(squares):
    """Images of squares, as VOC XML and as label maps."""
    return squares


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a new folder with its own locks and the network `tiny.json`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    (tmp_path / "tiny.json").write_text(json.dumps(NETWORK.to_dict()))
    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


def spec(**changes) -> DetectorSpec:
    """Return a small DSOD's specification."""
    recipe = recipe_for("dsod300", epochs=3, batch_size=3)
    values = {
        "system": "dsod300",
        "architecture": NETWORK,
        "classes": ("square",),
        "image_size": SIDE,
        "mean": (0.5,) * 3,
        "std": (0.25,) * 3,
        "recipe": recipe,
        "options": {"down": 8},
    }
    return DetectorSpec(**{**values, **changes})


@pytest.mark.parametrize(
    "system", ["dsod300", pytest.param("refinedet320", marks=pytest.mark.long)]
)
def test_train_evaluate_measure_and_export(run, data, tmp_path, system):
    """A detector is trained, judged, drawn, measured and exported by four commands."""
    common = ("--data", str(data), "--device", "cpu")
    done = run(
        *("detect", "train", "tiny.json", "--system", system, *common, "-o", "squares"),
        *("--epochs", "2", "--batch", "3", *SIZES[system]),
    )
    assert done.exit_code == 0, done.output
    assert "next: nas detect evaluate squares" in done.output
    done = run("detect", "evaluate", "squares", *common, "-o", "page.html")
    assert done.exit_code == 0, done.output
    assert "VOC 2007" in done.output
    assert "square" in done.output
    assert "data:image/jpeg" in (tmp_path / "page.html").read_text()
    done = run("detect", "evaluate", "squares", *common, "--json")
    values = json.loads(done.stdout)
    assert not differences("detection", values)
    assert values["images"] == values["classes"][0]["truths"] == 6
    compare = ("detect", "compare", "squares", "squares", "--against", "squares", *common)
    values = json.loads(run(*compare, "--json").stdout)
    assert not differences("detection comparison", values)
    assert (values["images"], len(values["first"]), values["difference"]) == (6, 2, 0.0)
    assert "difference of the means: +0.000 [+0.000, +0.000]" in run(*compare).output
    done = run("detect", "measure", "squares", "--device", "cpu", "--json")
    assert not differences("measure", json.loads(done.stdout))
    done = run("detect", "measure", "squares", "--device", "cpu")
    assert done.exit_code == (2 if "contended" in done.output else 0), done.output
    assert "squares, network" in done.output
    assert "squares, with post-processing" in done.output
    done = run("detect", "export", "squares", "-o", "out")
    assert done.exit_code == 0, done.output
    assert "boxes of decoder.py: found" in done.output
    assert_decoder_stands_alone(tmp_path / "out")


CYCLES = Cycles(
    candidate_s=0.05,
    reference_s=0.05,
    dropped_s=0.0,
    min_cycles=2,
    max_cycles=2,
    max_rejected=1,
    patience_s=0.0,
)
"""Far shorter than those of the protocol."""


@pytest.mark.long
def test_a_detector_is_certified_against_the_reference(run, data, monkeypatch):
    """`--tier certify` interleaves the network and the whole detector with the reference."""
    short = partial(session.certify_targets, cycles=CYCLES)
    monkeypatch.setattr(session, "certify_targets", short)
    common = ("--data", str(data), "--device", "cpu", "--epochs", "1", "--batch", "3")
    done = run(
        *("detect", "train", "tiny.json", "--system", "dsod300", *common, "-o", "squares"),
        *SIZES["dsod300"],
    )
    assert done.exit_code == 0, done.output
    done = run("detect", "measure", "squares", "--device", "cpu", "--tier", "certify", "--json")
    figures = json.loads(done.stdout)["figures"]
    latencies = [figure for figure in figures if figure["metric"] == "latency"]
    assert [figure["target"] for figure in latencies] == [
        "squares, network",
        "squares, with post-processing",
    ]
    assert all("vovnet27_slim" in str(figure["details"]) for figure in latencies)
    without_value = [figure for figure in latencies if figure["value"] is None]
    assert done.exit_code == (2 if without_value else 0), done.stderr


def assert_decoder_stands_alone(folder: Path) -> None:
    """Decode with the files of an export in a process without this package."""
    script = (
        "import json, sys, numpy as np, onnxruntime as ort\n"
        "from decoder import decode\n"
        "settings = json.load(open('decoder.json')); side = settings['image_size']\n"
        "session = ort.InferenceSession('network.onnx', providers=['CPUExecutionProvider'])\n"
        "images = np.zeros((1, 3, side, side), dtype=np.float32)\n"
        "outputs = session.run(None, {'images': images})\n"
        "boxes, labels, scores = decode([o[0] for o in outputs], np.load('priors.npy'), settings)\n"
        "assert boxes.shape == (len(labels), 4) and len(scores) == len(labels)\n"
        "assert not {'torch', 'nas'} & set(sys.modules)\n"
        "print('decoded')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "decoded\n", done.stderr


def test_an_interrupted_training_resumes_to_the_same_bits(data, tmp_path):
    """A training stopped after an epoch ends with the weights of one that was not stopped."""
    scenes = read_scenes(data, "train")

    def stop(epochs: float, _: float) -> None:
        if epochs == 2:
            raise KeyboardInterrupt

    whole = train_detector(spec(), scenes, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_detector(spec(), scenes, tmp_path / "parts", progress=stop)
    assert (tmp_path / "parts" / CHECKPOINT).exists()
    resumed = train_detector(spec(), scenes, tmp_path / "parts")
    for (name, one), other in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    read = TrainedDetector(tmp_path / "parts").model()
    image = [scenes.image(0) / 255]
    with torch.no_grad():
        for mine, theirs in zip(whole(image), read(image), strict=True):
            assert torch.equal(mine["boxes"], theirs["boxes"])


@pytest.mark.parametrize(("count", "batch"), [(6, 6), (6, 5), (5, 2)])
def test_statistics_are_those_of_the_training_images(data, tmp_path, count, batch):
    """BatchNorm's statistics after the training are the means over the images, also if their number
    is one more than whole batches. The last map has one pixel.
    """
    scenes = read_scenes(data, "train").take(torch.arange(count))
    recipe = recipe_for("dsod300", epochs=1, batch_size=batch)
    detector = train_detector(
        spec(recipe=replace(recipe, average=0.0), augment="none"), scenes, tmp_path / "out"
    )
    norm = next(m for m in detector.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        detector([scenes.image(index) / 255 for index in range(count)])
    torch.testing.assert_close(norm.running_mean, seen[0].mean((0, 2, 3)))
    assert norm.momentum == 0.1


def test_frozen_norms_stay_those_of_the_bundle(data, bundle_of, tmp_path):
    """All their values do, beside kernels that are trained. The other norms are estimated again."""
    bundle = bundle_of("stock")
    frozen = spec(
        architecture=bundle.architecture,
        bundle=str(bundle.folder),
        freeze_norm=True,
        recipe=replace(recipe_for("dsod300", epochs=1, batch_size=3), average=0.9),
    )
    before = frozen.build().state_dict()
    detector = train_detector(frozen, read_scenes(data, "train"), tmp_path / "out")
    after, bodies = (
        detector.state_dict(),
        [m for m in detector.modules() if isinstance(m, Features)],
    )
    norms = {id(norm): norm for body in bodies for norm in body.modules() if is_norm(norm)}
    names = [name for name, module in detector.named_modules() if id(module) in norms]
    others = [name for name, module in detector.named_modules() if is_norm(module)]
    changed = {
        name.rpartition(".")[0] for name in after if not torch.equal(before[name], after[name])
    }
    assert names
    assert not changed.intersection(names)
    assert changed.issuperset({*others} - {*names})
    assert any(name.startswith(names[0].rpartition(".")[0]) for name in changed)
    assert TrainedDetector(tmp_path / "out").spec.freeze_norm


def is_norm(module):
    return isinstance(module, nn.BatchNorm2d)


def test_one_image_alone_cannot_train_a_map_of_one_pixel(data, tmp_path):
    """The error says what the batch must be."""
    scenes = read_scenes(data, "train").take(torch.arange(1))
    with pytest.raises(TrialFailedError, match=r"one image in a batch: .* batches of two"):
        train_detector(spec(), scenes, tmp_path / "out")


def test_another_training_in_the_same_folder_is_refused(data, tmp_path):
    """The differences are named, and the folder stays as it is."""
    scenes = read_scenes(data, "train")
    train_detector(spec(), scenes, tmp_path / "out")
    changed = spec(seed=1, data=scenes.digest)
    with pytest.raises(InvalidValueError, match="a training with another seed, data;"):
        train_detector(changed, scenes, tmp_path / "out")


def test_a_folder_with_other_files_is_refused(data, tmp_path):
    """They stay alone, for example those of the bundle on which the detector is trained. An
    unfinished description is none of them.
    """
    scenes, out = read_scenes(data, "train"), tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_text("a bundle")
    with pytest.raises(InvalidValueError, match=r"out holds other files .*; name a new folder"):
        train_detector(spec(), scenes, out)
    assert [path.name for path in out.iterdir()] == ["model.safetensors"]
    (out / "model.safetensors").rename(out / PART_FILE)
    TrainedDetector(out).check_same(spec())


def test_a_folder_with_epochs_in_whole_numbers_is_read(tmp_path):
    """The digest in the weights is that of the description as it is written, with 3 or with 3.0."""
    values = spec().to_dict()
    values["recipe"]["epochs"] = 3
    text = json.dumps(values, sort_keys=True)
    (tmp_path / DESCRIPTION).write_text(json.dumps(values, indent=2))
    digest = hashlib.sha256(text.encode()).hexdigest()
    weights = spec().build().state_dict()
    write_checkpoint(tmp_path / WEIGHTS, Checkpoint(epochs=3.0, digest=digest, weights=weights))
    found = TrainedDetector(tmp_path).model().state_dict()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_mask_rcnn_trains_on_masks(data, tmp_path):
    """Mask R-CNN needs masks, and gives boxes and masks."""
    options = {"width": 16, "dense": 16, "anchor_per_stride": 4, "regions": 16}
    recipe = recipe_for("mask_rcnn", epochs=1, batch_size=3)
    own = spec(system="mask_rcnn", recipe=recipe, options=options)
    with pytest.raises(InvalidValueError, match="needs masks"):
        train_detector(own, read_scenes(data, "train"), tmp_path / "out")
    scenes = read_scenes(data / "maps", "train", ["square"])
    detector = train_detector(own, scenes, tmp_path / "out")
    with torch.no_grad():
        (found,) = detector([scenes.image(0) / 255])
    assert found["masks"].shape[1:] == (1, SIDE, SIDE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--system", "yolo"), "no 'yolo' in detection systems"),
        (("--option", "width=64"), "dsod300 has no option 'width'; it has down"),
        (("--option", "down"), "must be NAME=N"),
        (("--split", "dev"), "with the split dev"),
        (("--size", "8"), "too small|image"),
        (("--freeze-norm",), "--freeze-norm needs a bundle"),
    ],
)
def test_wrong_input_is_one_line(run, data, tmp_path, changes, message):
    """A wrong option ends with exit code 2, and no folder is made."""
    done = run(
        *("detect", "train", "tiny.json", "--system", "dsod300", "--data", str(data)),
        *("-o", "out", "--device", "cpu", *changes),
    )
    assert done.exit_code == 2, done.output
    assert any(part in done.output for part in message.split("|"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("detect", "train", "tiny.json", "--system", "dsod300", "-o", "out"),
        ("detect", "evaluate", "empty"),
        ("detect", "compare", "empty", "--against", "empty"),
    ],
)
def test_an_unknown_device_is_one_line(run, data, tmp_path, command):
    """It is refused before anything is read or written, as any other device that is not here."""
    (tmp_path / "empty").mkdir()
    done = run(*command, "--data", str(data), "--device", "gpu")
    assert (done.exit_code, done.output) == (
        2,
        "error: no 'gpu' in devices; there are: cpu, cuda\n",
    )
    if not torch.cuda.is_available():
        done = run(*command, "--data", str(data), "--device", "cuda")
        assert done.exit_code == 2
        assert done.output.startswith("error: no CUDA device: ")
    assert not (tmp_path / "out").exists()


def test_too_little_memory_is_one_line(run, data, monkeypatch):
    """The same folder takes a smaller batch, since nothing is in it before the first epoch."""

    def advance(trainer, epochs):
        if trainer.batch_size > 2:
            torch.empty(2**60, dtype=torch.uint8)
        return train(trainer, epochs)

    train = DetectorTrainer.advance
    monkeypatch.setattr(DetectorTrainer, "advance", advance)
    command = ("detect", "train", "tiny.json", "--system", "dsod300", "--data", str(data))
    options = ("-o", "out", "--device", "cpu", "--epochs", "1", *SIZES["dsod300"])
    done = run(*command, *options, "--batch", "3")
    assert done.exit_code == 2, done.output
    assert done.output.splitlines()[-1] == (
        "error: the device has too little memory for batches of 3 images; give a smaller --batch"
    )
    done = run(*command, *options, "--batch", "2")
    assert done.exit_code == 0, done.output
