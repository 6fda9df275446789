"""Metrics that training gives: the one that ships beside the error, and one of a plugin."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import nas
from nas.cli import main
from nas.core import tasks
from nas.core.errors import InvalidValueError
from nas.core.stopping import Curves
from nas.core.study import ERROR, Direction, TrainedMetric, TrainingSpec
from nas.core.trial import Rung
from nas.data import Images
from nas.model import build
from nas.record import Store
from nas.searching.evaluators import EvaluatorPlugin
from nas.searching.study_file import read_study
from nas.testing.evaluators import ArithmeticEvaluator
from nas.training import Numerics, Trainer
from nas.training.checkpoint import Checkpoint, write_checkpoint

DIGITS = """
space: osa_tiny
sampler: random
rungs: [{epochs: 0.5}, {epochs: 1}]
data: {dataset: digits, validation_images: 100, train_images: 128}
training: {batch_size: 32, precision: fp32, channels_last: false}
measurement:
  {busy: noisy, busy_wait_s: 0, warmup_s: 0.01, block_s: 0.005, min_blocks: 3, min_time_s: 0.02,
   max_time_s: 0.1}
"""
QUICK = """
from dataclasses import replace
from pathlib import Path
from nas.measuring.methods.certify import Cycles
from nas.searching.evaluators.classification import CLASSIFICATION
from nas.searching.evaluators.classification.certifier import Certifier

class Quick(Certifier):
    cycles = Cycles(
        candidate_s=0.2, reference_s=0.1, dropped_s=0.02, min_cycles=2, max_cycles=3,
        max_rejected=1, max_reference_change=1.0, max_half_width=1.0, patience_s=1.0,
    )

QUICKLY = replace(CLASSIFICATION, certify=f"{__name__}:Quick")
"""


def run(folder, *arguments):
    """Run a command on the record in the folder and return what it prints."""
    command = [arguments[0], *arguments[1:], "--database", str(folder / "nas.db")]
    result = CliRunner(env={"COLUMNS": "200"}).invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with device locks of its own."""
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.long
def test_a_study_of_the_top5_error_runs_to_its_bundle(folder):
    """It is searched, replicated, shown, trained fully and exported."""
    (folder / "study.yaml").write_text(
        "name: top5\n"
        "objectives: [{metric: top5_error, reference: 60 %}, {metric: macs, reference: 10 M}]\n"
        f"budget: {{trials: 6, fresh: 0}}\n{DIGITS}"
    )
    run(folder, "search", "study.yaml")
    with Store.open(folder / "nas.db") as store:
        trials = store.trials("top5")
        assert store.problems() == []
        member = store.newest_front("top5").members[0]
    for rung in (rung for trial in trials for rung in trial.evaluation.rungs):
        assert 0 <= rung.metrics["top5_error"] <= rung.metrics["error"] <= 1
    assert {len(trial.evaluation.rungs) for trial in trials} == {2}
    run(folder, "replicate", "top5", "--trial", str(member), "--seeds", "1")
    shown = run(folder, "show", f"top5:{member}")
    assert "top5_error after 1 epochs: " in shown
    assert "top5_error with other seeds: " in shown
    run(folder, "train", "top5", "--trial", str(member), "--seeds", "2", "--epochs", "0.5")
    rows = list(csv.DictReader(io.StringIO(run(folder, "front", "top5", "--format", "csv"))))
    (row,) = (row for row in rows if row["trial"] == str(member))
    assert float(row["top5_error_low"]) <= float(row["top5_error"]) <= float(row["top5_error_high"])
    assert 0 <= float(row["final_top5_error"]) <= 1
    assert "test top5_error, trained fully" in run(folder, "front", "top5")
    chosen = run(folder, "front", "top5", "--where", "error <= 100 %", "--sort", "top5_error")
    assert str(member) in chosen
    assert "top5_error at rung 0.5 against 1 epochs" in run(folder, "status", "top5")
    run(folder, "report", "top5", "--output", "report.html")
    assert '"top5_error"' in (folder / "report.html").read_text()
    run(folder, "export", "top5", "--trial", str(member), "--output", "bundle", "--no-latency")
    card = (folder / "bundle" / "README.md").read_text()
    assert "| top5 error on validation images |" in card
    assert "| top5 error on the test images |" in card
    record = json.loads((folder / "bundle" / "record.json").read_text())
    assert record["rungs"][-1]["metrics"].keys() == {"error", "top5_error"}


@pytest.mark.long
@pytest.mark.slow
def test_two_trained_objectives_and_a_latency_are_certified(folder):
    """The study is searched by known-cost, its front is certified, and the record is sound."""
    (folder / "quick.py").write_text(QUICK)
    (folder / "study.yaml").write_text(
        "name: three\nevaluator: quick:QUICKLY\nobjectives:\n- {metric: error, reference: 100 %}\n"
        "- {metric: top5_error, limit: 99 %, reference: 60 %}\n- {metric: latency, reference: 1}\n"
        f"budget: {{trials: 9, fresh: 0}}\n{DIGITS}".replace("random", "known-cost")
    )
    shown = run(folder, "search", "study.yaml")
    assert "certifying the front" in shown
    with Store.open(folder / "nas.db") as store:
        assert store.problems() == []
        front = store.newest_front("three")
        members = store.trials("three", front.members)
    assert front.hypervolume > 0
    assert all("certified_latency" in member.evaluation.measurements for member in members)
    assert "top5_error (limited)" in run(folder, "front", "three")


def test_top5_error_needs_more_than_five_classes(folder):
    """The search of a folder of two classes says so, and records nothing."""
    for part, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            (folder / "images" / part / name).mkdir(parents=True)
            for index in range(count):
                image = Image.new("RGB", (32, 32), (index, 0, 0))
                image.save(folder / "images" / part / name / f"{index}.png")
    (folder / "study.yaml").write_text(
        "name: two\nspace: osa_tiny\nobjectives: [{metric: macs}, {metric: top5_error}]\n"
        "data: {dataset: folder, folder: images, validation_images: 4}\n"
    )
    command = ["search", "study.yaml", "--database", "nas.db"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "objectives[1].metric: top5_error needs data with more than 5 classes" in result.output


RECALL = TrainedMetric(name="recall", direction=Direction.MAXIMIZE)


class WithRecall(ArithmeticEvaluator):
    """Gives a recall beside the error, both as multiples of 1/1024, which are exact."""

    def train(self, task, epochs, parameters):
        """Return one rung."""
        trained = super().train(task, epochs, parameters)
        error = round(trained.rung.metrics["error"] * 1024) / 1024
        metrics = {"error": error, "recall": 1 - error}
        return replace(trained, rung=replace(trained.rung, metrics=metrics))


class FinalRecall(WithRecall):
    """Finishes every final training at once, with random weights."""

    def steps(self, task):
        """Yield one epoch and the test."""
        name = f"{task.folder}/weights.safetensors"
        model = build(task.architecture, 10)
        model.train()(torch.rand(8, 3, 32, 32))
        path = Path(self.context.artifacts) / name
        write_checkpoint(
            path,
            Checkpoint(epochs=1.0, digest=task.architecture.digest, weights=model.state_dict()),
        )
        yield tasks.EpochDone(epochs=1.0, loss=1.0)
        recall = 0.5 + task.seed % 100 / 1000
        metrics = {"error": 1 - recall, "recall": recall}
        yield tasks.Tested(test_images=10, rung=Rung(epochs=1.0, metrics=metrics, checkpoint=name))


WITH_RECALL = EvaluatorPlugin(
    search=f"{__name__}:WithRecall",
    certify="nas.searching.evaluators.classification.certifier:Certifier",
    replicate=f"{__name__}:WithRecall",
    final=f"{__name__}:FinalRecall",
    trained=(ERROR, RECALL),
)
STUDY = f"""
space: osa_tiny
evaluator: {__name__}:WITH_RECALL
rungs: [{{epochs: 1}}, {{epochs: 2}}]
budget: {{trials: 16, fresh: 0.1}}
data: {{dataset: digits, validation_images: 100}}
"""


def test_a_metric_of_a_plugin_is_searched_as_the_error_is(folder):
    """Recall is 1 - error here, and is maximised. Both studies therefore try the same networks,
    have the same curves for the futility rule, and the same hypervolume.
    """
    (folder / "error.yaml").write_text(
        "name: by_error\n"
        "objectives: [{metric: error, limit: 0.5}, {metric: macs, reference: 9 M}]\n" + STUDY
    )
    (folder / "recall.yaml").write_text(
        "name: by_recall\n"
        "objectives: [{metric: recall, limit: 50 %}, {metric: macs, reference: 9 M}]\n" + STUDY
    )
    assert read_study("recall.yaml").objectives[0].direction is Direction.MAXIMIZE
    for name in ("error", "recall"):
        run(folder, "search", f"{name}.yaml")
    with Store.open(folder / "nas.db") as store:
        assert store.problems() == []
        by_error, by_recall = store.trials("by_error"), store.trials("by_recall")
        fronts = [store.newest_front(name) for name in ("by_error", "by_recall")]
        error, recall = (store.study(name).spec for name in ("by_error", "by_recall"))
    assert [trial.architecture.digest for trial in by_recall] == [
        trial.architecture.digest for trial in by_error
    ]
    assert [trial.state for trial in by_recall] == [trial.state for trial in by_error]
    curves = [Curves.of(by_error, error), Curves.of(by_recall, recall)]
    assert curves[1].errors.tolist() == curves[0].errors.tolist()
    assert len(curves[1]) > 6
    assert set(fronts[0].members) == set(fronts[1].members)
    assert fronts[0].hypervolume == pytest.approx(fronts[1].hypervolume)
    assert any(trial.evaluation.replicates for trial in by_recall)


def test_a_metric_of_a_plugin_is_shown_trained_and_exported(folder):
    """No part of the record's readers needs the plugin's code; the record describes the metric."""
    (folder / "study.yaml").write_text(
        "name: recall\n"
        "objectives: [{metric: recall, reference: 0}, {metric: macs, reference: 9 M}]\n" + STUDY
    )
    run(folder, "search", "study.yaml")
    study = nas.open(folder / "nas.db").study("recall")
    front = study.front()
    assert (front["recall"].diff().dropna() <= 0).all()
    assert study.spec.trained_metrics == {"error": ERROR, "recall": RECALL}
    member = int(front.index[0])
    assert f"{100 * front['recall'].iloc[0]:.2f} %" in run(folder, "front", "recall")
    shown = run(folder, "train", "recall", "--trial", str(member), "--seeds", "2", "--epochs", "1")
    assert "recall on the test images" in shown
    rows = json.loads(run(folder, "front", "recall", "--format", "json"))["members"]
    assert 0.5 <= rows[0]["final_recall"] < 0.6
    run(folder, "report", "recall", "--output", "report.html")
    run(folder, "export", "recall", "--trial", str(member), "--output", "bundle", "--no-latency")
    assert "| recall on the test images |" in (folder / "bundle" / "README.md").read_text()


class Mistaken(WithRecall):
    """Gives no recall, or an impossible one for every second trial."""

    def train(self, task, epochs, parameters):
        """Return one rung."""
        trained = super().train(task, epochs, parameters)
        metrics = {"error": 0.5, "recall": 1.5} if task.number % 2 else {"error": 0.5}
        return replace(trained, rung=replace(trained.rung, metrics=metrics))


MISTAKEN = replace(WITH_RECALL, search=f"{__name__}:Mistaken")


def test_a_missing_or_impossible_figure_fails_its_trial(folder):
    """The reason names the metric and its bounds, and the rung is not recorded."""
    (folder / "study.yaml").write_text(
        "name: wrong\nobjectives: [{metric: recall, reference: 0}]\n"
        + STUDY.replace("WITH_RECALL", "MISTAKEN").replace("trials: 16", "trials: 2")
    )
    CliRunner().invoke(main, ["search", "study.yaml", "--database", str(folder / "nas.db")])
    with Store.open(folder / "nas.db") as store:
        trials = store.trials("wrong")
        reasons = [trial.reason for trial in trials]
    assert reasons == ["training gave no recall", "recall must be from 0 to 1, not 1.5"]
    assert not any(trial.evaluation.rungs for trial in trials)


def test_told_figures_leave_the_rest_unknown(folder):
    """Training loss, images and seconds were not told. Extra trained figures are recorded."""
    spec = nas.StudySpec(
        name="told",
        space="osa_tiny",
        sampler="random",
        objectives=(nas.Objective(metric="top5_error"), nas.Objective(metric="error")),
        budget=nas.Budget(trials=2),
    )
    with nas.AskTell(spec, database=folder / "nas.db") as loop:
        one, two = loop.ask(), loop.ask()
        for wrong, reason in (
            ({"error": 0.5}, "training gave no top5_error"),
            ({"error": 1.5, "top5_error": 0.1}, "error must be from 0 to 1, not 1.5"),
            ({"error": 0.5, "top1": 0.1}, "top1: no objective of told"),
        ):
            with pytest.raises(InvalidValueError, match=reason):
                loop.tell(one.number, **wrong)
        loop.tell(one.number, error=0.5, top5_error=0.25)
        loop.fail(two.number, "burnt")
    with Store.open(folder / "nas.db") as store:
        (rung,) = store.trial("told", one.number).evaluation.rungs
        assert store.problems() == []
    assert rung.metrics == {"error": 0.5, "top5_error": 0.25}
    assert (rung.train_loss, rung.images, rung.train_s, rung.validation_s) == (None,) * 4
    trials = nas.open(folder / "nas.db").study("told").trials()
    assert trials["training_s"].isna().tolist() == [True, False]
    assert "top5_error after 1 epochs: 25.00 % (unknown time of training)" in run(
        folder, "show", f"told:{one.number}"
    )
    run(folder, "report", "told", "--output", "report.html")


def test_the_top5_error_counts_the_five_most_likely_classes():
    """It equals a count by sorting all logits."""
    torch.manual_seed(0)
    labels = torch.arange(40) % 8
    images = Images(torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8), labels)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 8))
    trainer = Trainer(
        model=model,
        train=images,
        validation=images,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        spec=TrainingSpec(batch_size=8, learning_rate=1e-9, translate=0),
        numerics=Numerics(),
    )
    rung = trainer.run(0.0, 1.0)
    with torch.no_grad():
        order = model((images.images / 255 - 0.5) / 0.25).argsort(1, descending=True)
    places = (order == labels[:, None]).nonzero()[:, 1]
    assert rung.metrics == {
        "error": pytest.approx(float((places > 0).double().mean())),
        "top5_error": pytest.approx(float((places >= 5).double().mean())),
    }
