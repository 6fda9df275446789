"""Final training of tiny networks on the digits: resumable to the bit, tested once, recorded."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from nas.cli import main
from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import DatabaseError, InvalidValueError, NasError
from nas.core.recipe import Candidate, FinalTraining, Recipe
from nas.core.study import Budget, DataSpec, Objective, StudySpec, TrainingSpec
from nas.core.tasks import FinalTask, Weights
from nas.core.trial import Rung, Trial, TrialState
from nas.data import Dataset, load
from nas.model import build
from nas.record import ArtifactKind, Store
from nas.searching.evaluators.classification.full import network_of
from nas.searching.final import missing_trainings, teacher_of
from nas.training import FullTrainer, Numerics, read_checkpoint

SPEC = StudySpec(
    name="full",
    space="osa_tiny",
    sampler="random",
    budget=Budget(trials=2),
    seed=3,
    objectives=(Objective(metric="error", reference=1.0), Objective(metric="macs", reference=1e7)),
    data=DataSpec(dataset="digits", validation_images=100, train_images=128),
    training=TrainingSpec(precision="fp32", channels_last=False),
)
RECIPE = Recipe(
    epochs=1.5,
    training=TrainingSpec(batch_size=64, learning_rate=0.05, translate=3, cutout=6),
    average=0.9,
)
NETWORK = Architecture(
    stem=Stem.CODE,
    stem_channels=(8, 8, 8),
    stages=tuple(OsaStage(mid_channels=8, out_channels=out, num_layers=2) for out in (8, 16, 16)),
)
COMMAND = [sys.executable, "-c", "from nas.cli import main; main()"]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(SPEC.data)


def trainer(digits: Dataset, recipe: Recipe = RECIPE, **settings: object) -> FullTrainer:
    torch.manual_seed(5)
    return FullTrainer(
        recipe=recipe,
        model=build(NETWORK, 10),
        train=digits.train.take(torch.arange(640)),
        seed=5,
        mean=digits.mean,
        std=digits.std,
        numerics=Numerics(),
        threads=1,
        **settings,
    )


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(digits, tmp_path):
    """The weights and their running mean are equal. The parts end inside epochs, and are connected
    by the file that another process would read.
    """
    whole = trainer(digits)
    whole.advance(1.5)
    whole.finish(tmp_path / "whole", "d")
    first = trainer(digits)
    first.advance(0.4)
    first.energy_j += 2.5
    first.save(tmp_path / "going", "d")
    second = trainer(digits)
    second.load(tmp_path / "going", "d")
    assert (second.train_s, second.energy_j) == (first.train_s, 2.5)
    second.advance(1.5)
    second.finish(tmp_path / "parts", "d")
    assert_equal(
        dict(read_checkpoint(tmp_path / "whole").weights),
        dict(read_checkpoint(tmp_path / "parts").weights),
    )
    curve = read_checkpoint(tmp_path / "parts").curve
    assert [epochs for epochs, _ in curve] == [0.4, 1.5]
    assert curve[-1][1] == second.last_loss
    assert second.images_seen == whole.images_seen == 15 * 64
    assert second.train_s > 0


def test_parts_share_one_learning_rate_cycle(digits):
    """The rates of all parts together are those of one brief training of the same length."""
    rates = []

    class Recording(FullTrainer):
        def step(self, _: int, learning_rate: float) -> torch.Tensor:
            rates.append(learning_rate)
            return torch.zeros(())

    training = Recording(
        recipe=RECIPE,
        model=build(NETWORK, 10),
        train=digits.train.take(torch.arange(640)),
        mean=digits.mean,
        std=digits.std,
        numerics=Numerics(),
    )
    for end in (0.4, 1.0, 1.5):
        training.advance(end)
    steps, peak = 15, 0.05
    shares = [(k + 0.5) / steps for k in range(steps)]
    assert rates == pytest.approx(
        [peak * (s / 0.25 if s < 0.25 else (1 - s) / 0.75) for s in shares]
    )


def test_the_stored_weights_are_the_running_mean(digits, tmp_path):
    """The expected mean is computed step by step with NumPy, by w <- d w + (1 - d) v. With
    `average: 0` the weights themselves are stored.
    """
    seen = []

    class Recording(FullTrainer):
        def step(self, step: int, learning_rate: float) -> torch.Tensor:
            loss = super().step(step, learning_rate)
            seen.append(self.model.state_dict()["head.fc.weight"].double().numpy(force=True).copy())
            return loss

    torch.manual_seed(5)
    training = Recording(
        recipe=RECIPE,
        model=build(NETWORK, 10),
        train=digits.train.take(torch.arange(640)),
        seed=5,
        mean=digits.mean,
        std=digits.std,
        numerics=Numerics(),
        threads=1,
    )
    expected = training.model.state_dict()["head.fc.weight"].double().numpy(force=True).copy()
    training.advance(1.5)
    for step, value in enumerate(seen):
        decay = min(0.9, 1 - 10 / 15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    training.finish(tmp_path / "mean", "d")
    stored = read_checkpoint(tmp_path / "mean").weights["head.fc.weight"].double().numpy()
    assert stored == pytest.approx(expected, abs=1e-6)
    assert abs(stored - seen[-1]).max() > 1e-5
    plain = trainer(digits, replace(RECIPE, average=0.0))
    plain.advance(1.5)
    plain.finish(tmp_path / "plain", "d")
    assert read_checkpoint(tmp_path / "plain").weights["head.fc.weight"].numpy() == pytest.approx(
        seen[-1], abs=1e-6
    )


def test_a_student_learns_the_answers_of_its_teacher(digits):
    """With the whole loss from a teacher that always predicts class 3, the student predicts it
    too.
    """

    class Three(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[3].repeat(len(x), 1) * 20

    taught = trainer(digits, replace(RECIPE, epochs=3.0, distillation=1.0), teacher=Three())
    taught.advance(3.0)
    images = digits.test()
    metrics, _ = taught.judge(images)
    assert metrics["error"] == pytest.approx(1 - float((images.labels == 3).float().mean()))


@pytest.fixture(scope="module")
def searched(tmp_path_factory, search_study):
    folder = tmp_path_factory.mktemp("searched")
    search_study(folder, SPEC)
    return folder


@pytest.fixture
def folder(searched, copy_study, tmp_path, monkeypatch):
    """Copy a searched study with its files, change to the copy, and write a small recipe."""
    monkeypatch.chdir(copy_study(searched, tmp_path / "copy"))
    Path("recipe.yaml").write_text(
        "epochs: 0.3\ntraining: {batch_size: 64, learning_rate: 0.05}\naverage: 0.9\n"
    )
    return tmp_path / "copy"


def nas(*arguments: str) -> str:
    result = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def finals(folder: Path) -> list[FinalTraining]:
    with Store.open(folder / "nas.db", read_only=True) as store:
        return store.finals("full")


def test_training_is_recorded_shown_and_done_once(folder):
    """Two trials and a network of another family are trained with two seeds each. The weights are
    artifacts, which the record checks.
    """
    Path("other.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(8, num_classes))\n"
    )
    call = (
        "train",
        "full",
        "--trial",
        "0",
        "--trial",
        "1",
        "--network",
        "other:tiny",
        "--seeds",
        "2",
        "--recipe",
        "recipe.yaml",
    )
    output = nas(*call)
    assert re.findall(r"\[(\d)/6\] ", output) == list("123456")
    results = finals(folder)
    assert [final.test_images for final in results] == [360] * 6
    assert {final.reached.images for final in results} == {round(0.3 * (1437 // 64)) * 64}
    # A hidden second attempt would leave a loss of NaN.
    assert all(1.0 < final.reached.train_loss < 3.0 for final in results)
    assert len({(final.network, final.seed) for final in results}) == 6
    assert {final.digest for final in results if final.network == "other:tiny"} == {None}
    assert "6 of them recorded" in nas(*call)
    assert len(finals(folder)) == 6
    with Store.open("nas.db") as store:
        assert len(store.artifacts("full", kind=ArtifactKind.WEIGHTS)) == 6
        assert store.problems() == []
        with pytest.raises(DatabaseError, match="breaks a rule"):
            store.add_final("full", results[0])
        best = store.trial("full", 0)
    assert not list((folder / "checkpoints").rglob("going.safetensors"))
    final = next(each for each in results if each.network == best.architecture.digest)
    model = build(best.architecture, 10)
    path = folder / "checkpoints" / final.reached.checkpoint
    model.load_state_dict(dict(read_checkpoint(path).weights))
    digits = load(SPEC.data)
    images = (digits.test().images / 255 - torch.tensor(digits.mean).view(3, 1, 1)) / torch.tensor(
        digits.std
    ).view(3, 1, 1)
    with torch.inference_mode():
        wrong = (model.eval()(images).argmax(1) != digits.test().labels).sum()
    assert int(wrong) == round(final.reached.metrics["error"] * 360)


@pytest.mark.slow
@pytest.mark.long
def test_a_killed_training_resumes_from_its_last_epoch(folder):
    """It is killed after the first checkpoint. The same command gives the error of a training that
    was never killed.
    """
    call = [
        "train",
        "full",
        "--trial",
        "0",
        "--seeds",
        "1",
        "--recipe",
        "recipe.yaml",
        "--epochs",
        "3",
    ]
    shutil.copytree(folder, folder.parent / "whole")
    with subprocess.Popen(
        [*COMMAND, *call], cwd=folder, env={**os.environ}, stdout=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while (
            not list((folder / "checkpoints").rglob("going.safetensors"))
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert finals(folder) == []
    (resume_file,) = (folder / "checkpoints").rglob("going.safetensors")
    assert 1 <= read_checkpoint(resume_file).epochs < 3
    nas(*call)
    with Store.open(folder.parent / "whole" / "nas.db") as store:
        store.set_artifacts("full", folder.parent / "whole" / "checkpoints")
    nas(*call, "--database", str(folder.parent / "whole" / "nas.db"))
    (resumed,), (whole,) = finals(folder), finals(folder.parent / "whole")
    assert (
        resumed.reached.metrics["error"],
        resumed.reached.images,
        resumed.reached.train_loss,
    ) == (
        whole.reached.metrics["error"],
        whole.reached.images,
        whole.reached.train_loss,
    )
    assert resumed.seed == whole.seed


def test_an_image_folder_is_trained_on_and_tested_on_its_test_part(
    search_study, tmp_path, monkeypatch
):
    """Each of the three classes has one colour, so that a network separates them after some steps.
    There are 6 test images. A recipe whose shifts are as large as the images is refused.
    """
    image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    for part, count in (("train", 40), ("test", 2)):
        for channel, name in enumerate(("red", "green", "blue")):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(count):
                colour = [60 + number] * 3
                colour[channel] = 200
                image.new("RGB", (20, 24), tuple(colour)).save(
                    tmp_path / "images" / part / name / f"{number}.png"
                )
    spec = replace(
        SPEC,
        name="photos",
        budget=Budget(trials=1),
        data=DataSpec(
            dataset="folder", folder="images", image_size=16, validation_images=30, train_images=90
        ),
        training=replace(SPEC.training, batch_size=30),
    )
    search_study(tmp_path, spec)
    Path("recipe.yaml").write_text("training: {translate: 16}\n")
    refused = CliRunner().invoke(
        main, ["train", "photos", "--trial", "0", "--recipe", "recipe.yaml"]
    )
    problem = "training.translate must be less than the 16 pixels of the images, not 16"
    assert (refused.exit_code, refused.output) == (2, f"error: {problem}\n")
    Path("recipe.yaml").write_text(
        "training: {batch_size: 30, learning_rate: 0.05, translate: 0}\naverage: 0\n"
    )
    nas(
        "train",
        "photos",
        "--trial",
        "0",
        "--seeds",
        "1",
        "--recipe",
        "recipe.yaml",
        "--epochs",
        "8",
    )
    with Store.open("nas.db") as store:
        (final,) = store.finals("photos")
        assert store.study("photos").classes == 3
    assert (final.test_images, final.reached.images) == (6, 8 * 120)
    assert final.reached.metrics["error"] == 0


def test_a_teacher_must_have_been_trained(folder):
    """The record names the weights that taught."""
    with Store.open("nas.db") as store:
        trials = store.trials("full")
    recipe = replace(RECIPE, teacher=1)
    with pytest.raises(InvalidValueError, match="`nas train full --trial 1`"):
        teacher_of("full", recipe, trials, [])
    nas(
        "train",
        "full",
        "--trial",
        "1",
        "--seeds",
        "1",
        "--recipe",
        "recipe.yaml",
        "--epochs",
        "0.2",
    )
    with Store.open("nas.db") as store:
        teacher = teacher_of("full", recipe, trials, store.finals("full"))
        assert teacher.architecture == trials[1].architecture
        assert teacher.path == store.finals("full")[0].reached.checkpoint
    output = nas(
        "train", "full", "--trial", "0", "--seeds", "1", "--epochs", "0.2", "--teacher", "1"
    )
    assert "[1/1] trial 0" in output
    student = finals(folder)[-1]
    assert student.recipe.teacher == 1
    facts = {key: student.reached.numerics[key] for key in ("teacher", "threads", "image_size")}
    assert facts == {"teacher": Path(teacher.path).parent.name, "threads": 1, "image_size": 32}


def test_the_teacher_is_of_the_recipe_that_was_used_last():
    """Of its seeds the first one teaches, whatever the test errors. Other students of a recipe have
    the teacher of its first student.
    """
    trial = Trial(number=1, params={}, architecture=NETWORK, seed=0, state=TrialState.COMPLETE)

    def trained(recipe: Recipe, folder: str, error: float, **numerics: str) -> FinalTraining:
        path = f"full/final/{folder}/weights.safetensors"
        reached = Rung(epochs=1.0, metrics={"error": error}, checkpoint=path, numerics=numerics)
        return FinalTraining(
            network=NETWORK.digest,
            digest=NETWORK.digest,
            recipe=recipe,
            seed=0,
            test_images=1,
            reached=reached,
        )

    taught = replace(RECIPE, teacher=1)
    found = [
        trained(replace(RECIPE, epochs=0.1), "try", 0.1),
        trained(RECIPE, "first", 0.3),
        trained(RECIPE, "second", 0.2),
        trained(replace(taught, temperature=2.0), "student", 0.05, teacher="try"),
    ]
    assert teacher_of("full", taught, [trial], found).name == "first"
    found.append(trained(taught, "student", 0.1, teacher="first"))
    found.append(trained(replace(RECIPE, epochs=9.0), "later", 0.2))
    assert teacher_of("full", taught, [trial], found).name == "first"
    assert teacher_of("full", replace(taught, epochs=2.0), [trial], found).name == "later"
    older = replace(taught, epochs=3.0)  # a record that does not name the teacher
    found.append(trained(older, "student", 0.1))
    assert teacher_of("full", older, [trial], found).name == "try"


def test_a_training_is_not_continued_with_another_teacher():
    """Each teacher has a folder of its own for its unfinished students."""
    candidate = Candidate(name="a:b", architecture=None)
    taught = replace(RECIPE, teacher=1)
    folders = [
        missing_trainings(SPEC, [candidate], taught, 1, [], teacher)[0][1].folder
        for teacher in (
            Weights(architecture=NETWORK, path="full/final/first/weights.safetensors"),
            Weights(architecture=NETWORK, path="full/final/later/weights.safetensors"),
        )
    ]
    assert len(set(folders)) == 2


@pytest.mark.usefixtures("folder")
def test_wrong_arguments_are_refused_with_the_reason():
    """No selection, an unknown trial, and a network that cannot be made."""
    for arguments, words in (
        ((), "say what to train"),
        (("--trial", "9"), "there is no trial 9"),
        (("--network", "vovnet"), "published architectures"),
    ):
        result = CliRunner().invoke(main, ["train", "full", *arguments])
        assert result.exit_code == 2
        assert words in result.output
    with pytest.raises(NasError, match="makes no network of 10 classes"):
        network_of(
            FinalTask(
                number=0,
                network="torch:nothing",
                architecture=None,
                recipe=RECIPE,
                seed=0,
                folder="x",
            ),
            10,
        )


def test_seeds_are_interleaved_and_recorded_trainings_are_left_out():
    """The first seed of every network comes first. Another recipe is another training."""
    candidates = [Candidate(name=name, architecture=None) for name in ("a:b", "c:d")]
    todo = missing_trainings(SPEC, candidates, RECIPE, 2, [])
    assert [candidate.name for candidate, _ in todo] == ["a:b", "c:d"] * 2
    assert len({task.folder for _, task in todo}) == len({task.seed for _, task in todo}) == 4
    done = FinalTraining(
        network="a:b", digest=None, recipe=RECIPE, seed=todo[0][1].seed, test_images=1, reached=None
    )
    assert [c.name for c, _ in missing_trainings(SPEC, candidates, RECIPE, 2, [done])] == [
        "c:d",
        "a:b",
        "c:d",
    ]
    assert len(missing_trainings(SPEC, candidates, replace(RECIPE, epochs=2.0), 2, [done])) == 4
