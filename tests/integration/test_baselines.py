"""Baselines: networks beside a search, evaluated as its trials are, and never part of it."""

import json
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from nas.analysis.baselines import beaten_by
from nas.api import AskTell
from nas.api import open as open_record
from nas.cli import main
from nas.core.errors import InvalidValueError, StudyConflictError, TrialFailedError
from nas.core.foreign import ForeignNetwork
from nas.core.measurement import MeasurementPlan
from nas.core.published import PUBLISHED
from nas.core.seeds import trial_seed
from nas.core.study import (
    Budget,
    DataSpec,
    Objective,
    RungSpec,
    StudySpec,
    TrainingSpec,
    rungs_at,
)
from nas.core.tasks import Measured, Task, Trained
from nas.core.trial import Baseline, Evaluation
from nas.record import Store
from nas.report.contents import contents, read
from nas.searching.baselines import open_baselines
from nas.searching.evaluators import EvaluatorPlugin
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.launch import open_search
from nas.searching.run import SearchObserver, run_study
from nas.testing.evaluators import ArithmeticEvaluator
from nas.testing.sample_records import rung, trial
from search_spaces import osa_tiny
from workers.local import LocalWorkers

BASELINE = "vovnet27_slim_cifar"
NOW = datetime(2026, 1, 2, tzinfo=UTC)


class WatchedEvaluator(ArithmeticEvaluator):
    """Notes each rung as (digest, seed, epochs), and stops like Ctrl-C before the rung `cut`."""

    seen: list[tuple[str, int, float]]
    cut: tuple[str, float] | None

    def train(self, task: Task, epochs: float, parameters: int) -> Trained:
        """Return one rung."""
        if (task.architecture.digest, epochs) == type(self).cut:
            raise KeyboardInterrupt
        self.seen.append((task.architecture.digest, task.seed, epochs))
        return super().train(task, epochs, parameters)


class CutEvaluator(Evaluator):
    """Stops like Ctrl-C before the second rung."""

    def _run_to_rung(self, task, trainer, rungs, *others):
        if rungs:
            raise KeyboardInterrupt
        return super()._run_to_rung(task, trainer, rungs, *others)


PLUGIN = EvaluatorPlugin(
    search="tests.integration.test_baselines:WatchedEvaluator",
    certify="",
    replicate="",
    final="",
)
SPEC = StudySpec(
    name="beside",
    space="osa_tiny",
    evaluator="tests.integration.test_baselines:PLUGIN",
    seed=1,
    rungs=rungs_at(1, 2),
    budget=Budget(trials=4, epochs=8, fresh=0),
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="macs", reference=4e6),
    ),
)


@pytest.fixture(autouse=True)
def watched():
    """Begin each test with an evaluator that saw nothing."""
    WatchedEvaluator.seen, WatchedEvaluator.cut = [], None


@pytest.fixture
def database(tmp_path, monkeypatch):
    """Work in an empty folder, and return its record."""
    monkeypatch.chdir(tmp_path)
    return str(tmp_path / "nas.db")


def search(database, *baselines, observer=None, **changes):
    """Run the study with these baselines, and return its trials and its baselines."""
    spec = replace(SPEC, baselines=baselines, **changes)
    run_study(spec, database, observer=observer or SearchObserver())
    with Store.open(database, read_only=True) as store:
        return store.trials(spec.name), store.baselines(spec.name)


def test_a_search_is_the_same_with_baselines_as_without(database, tmp_path):
    """They use no budget, not even that of epochs, and the sampler does not learn them."""
    alone, _ = search(str(tmp_path / "other.db"))
    trials, (baseline,) = search(database, BASELINE)
    assert [each.params for each in trials] == [each.params for each in alone]
    assert len(baseline.evaluation.rungs) == 2
    with Store.open(database, read_only=True) as store:
        assert store.summary("beside").spent.epochs == 8
        assert store.problems() == []


def test_a_baseline_is_trained_as_a_trial_of_its_network_would_be(database):
    """It has the seed and all rungs of such a trial, and comes first."""
    digest = PUBLISHED[BASELINE].digest
    search(database, BASELINE)
    seed = trial_seed(SPEC.seed, digest)
    assert WatchedEvaluator.seen[:2] == [(digest, seed, 1.0), (digest, seed, 2.0)]


def test_a_network_of_the_space_can_be_a_baseline(database, tmp_path):
    """It is evaluated for itself, and its trial too. A file is found beside the study file."""
    params = {choice.name: choice.values[0] for choice in osa_tiny.SPACE.choices}
    network = osa_tiny.SPACE.decode(params)
    (tmp_path / "small.json").write_text(json.dumps(network.to_dict()))
    trials, (baseline,) = search(database, "small.json", budget=Budget(trials=2, fresh=0))
    assert baseline.digest == network.digest
    search(database, "small.json", "beside:0", budget=Budget(trials=2, fresh=0))
    with Store.open(database, read_only=True) as store:
        _, first = store.baselines("beside")
    assert first.evaluation.value("error") == trials[0].evaluation.value("error")


def test_an_interrupted_baseline_continues_at_its_rung(database):
    """After Ctrl-C between two rungs, the first one is not trained again."""
    digest = PUBLISHED[BASELINE].digest
    WatchedEvaluator.cut = digest, 2.0
    with pytest.raises(KeyboardInterrupt):
        search(database, BASELINE)
    WatchedEvaluator.cut = None
    _, (baseline,) = search(database, BASELINE)
    epochs = [epochs for seen, _, epochs in WatchedEvaluator.seen if seen == digest]
    assert epochs == [1.0, 2.0]
    assert [each.epochs for each in baseline.evaluation.rungs] == [1.0, 2.0]


def test_baselines_may_be_added_and_left_out_later(database):
    """A finished study gets another one; one that is left out is shown no more, and kept."""
    search(database, BASELINE)
    _, added = search(database, "vovnet39_cifar", BASELINE)
    assert [each.name for each in added] == ["vovnet39_cifar", BASELINE]
    WatchedEvaluator.seen = []
    _, left = search(database, "vovnet39_cifar")
    assert [each.name for each in left] == ["vovnet39_cifar"]
    search(database, BASELINE)
    assert WatchedEvaluator.seen == []


def test_a_failed_baseline_stops_no_search(database):
    """Its reason is reported, and the next call tries it again."""

    class Observer(SearchObserver):
        def baselines_failed(self, failures):
            reported.update(failures)

    pytest.importorskip("torchvision")
    reported = {}
    trials, _ = search(database, "torchvision:squeezenet1_1", observer=Observer())
    assert reported == {"torchvision:squeezenet1_1": "this arithmetic is on OSA networks only"}
    assert len(trials) == 4


def test_baselines_are_no_time_of_searching(database):
    """Neither those before the search nor those that are tried again after it."""

    class Observer(SearchObserver):
        seconds = elapsed_s = 0.0

        def prepared(self, search):
            self.engine = search.engine
            self.engine._now = lambda: NOW + timedelta(seconds=self.seconds)
            self.engine._steady_s = lambda: self.seconds
            self.engine.set_clock(0.0)

        def update(self, trial):
            self.seconds += 1

        @contextmanager
        def baselines(self, trainings):
            yield
            self.seconds += 1000

        def ended(self, reason):
            self.elapsed_s = self.engine.elapsed_s()

    pytest.importorskip("torchvision")
    observer = Observer()
    search(database, "torchvision:squeezenet1_1", observer=observer)
    assert observer.seconds > 2000
    assert observer.elapsed_s == observer.seconds - 2000


def test_a_killed_call_leaves_no_checkpoints_of_a_finished_baseline(database):
    """The next call deletes them."""
    _, (baseline,) = search(database, BASELINE)
    name = f"beside/baselines/{baseline.digest[:16]}/2.safetensors"
    with Store.open(database) as store:
        file = Path(store.study("beside").artifacts) / name
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE baseline_rung SET checkpoint = ? WHERE epochs = 2", (name,))
    search(database, BASELINE)
    assert not file.parent.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lost.json", "lost.json: No such file"),
        ("lost:3", "no record yet"),
        ("timm:lost", "cannot be built"),
    ],
)
def test_an_unknown_baseline_leaves_no_record(database, name, message, tmp_path):
    """It is named before anything is written."""
    with pytest.raises(InvalidValueError, match=f"baselines: .*{message}"):
        search(database, name)
    assert not (tmp_path / "nas.db").exists()


def test_a_finished_baseline_is_not_needed_again(database, tmp_path):
    """Neither its file nor the package that built it."""
    file, gone = tmp_path / "mine.json", ForeignNetwork(name="timm:lost")
    file.write_text(json.dumps(PUBLISHED[BASELINE].to_dict()))
    _, (finished,) = search(database, "mine.json")
    file.unlink()
    with Store.open(database) as store:
        store.add_baseline("beside", gone.name, gone.digest)
        figures = tuple(finished.evaluation.measurements.values())
        store.add_baseline_event("beside", gone.name, Measured(measurements=figures, seconds=0.0))
        for reached in finished.evaluation.rungs:
            store.add_baseline_event("beside", gone.name, Trained(rung=reached))
    budget = Budget(trials=5, epochs=10, fresh=0)
    trials, baselines = search(database, "mine.json", gone.name, budget=budget)
    assert [each.name for each in baselines] == ["mine.json", gone.name]
    assert len(trials) == 5


def test_an_unfinished_baseline_that_is_gone_is_named(database, tmp_path):
    """It cannot be trained any more."""
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(PUBLISHED[BASELINE].to_dict()))
    WatchedEvaluator.cut = PUBLISHED[BASELINE].digest, 2.0
    with pytest.raises(KeyboardInterrupt):
        search(database, "mine.json")
    file.unlink()
    with pytest.raises(InvalidValueError, match=r"baselines: mine\.json: No such file"):
        search(database, "mine.json")


def test_a_lost_checkpoint_costs_a_training_again(tmp_path):
    """The baseline ends as if nothing had been lost, also after a rung of smaller images."""
    spec = replace(
        SPEC,
        evaluator="classification",
        rungs=(RungSpec(epochs=0.5, image_size=6), RungSpec(epochs=1.0)),
        budget=Budget(trials=1, fresh=0),
        data=DataSpec(dataset="digits", validation_images=100, train_images=256),
        training=TrainingSpec(precision="fp32", channels_last=False),
        trained=None,
        baselines=("small.json",),
    )
    params = {choice.name: choice.values[0] for choice in osa_tiny.SPACE.choices}
    (tmp_path / "small.json").write_text(json.dumps(osa_tiny.SPACE.decode(params).to_dict()))

    def run(name, evaluator="nas.searching.evaluators.classification.evaluator:Evaluator"):
        with (
            Store.open(tmp_path / f"{name}.db") as store,
            open_search(
                spec,
                store=store,
                workers=LocalWorkers(),
                folder=tmp_path,
                artifacts=tmp_path / name,
                evaluator=evaluator,
            ) as found,
        ):
            open_baselines(found, store, found.baselines, lambda _: None).run()
            return store.baselines(spec.name)[0].evaluation

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("lost", "tests.integration.test_baselines:CutEvaluator")
    (checkpoint,) = (tmp_path / "lost").rglob("*.safetensors")
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(TrialFailedError, match="remove the file, and the network is trained again"):
        run("lost")
    checkpoint.unlink()
    lost = run("lost")
    assert [rung.metrics for rung in lost.rungs] == [rung.metrics for rung in whole.rungs]
    assert lost.rungs[1].train_loss == whole.rungs[1].train_loss
    assert lost.rungs[1].train_s > 0
    assert list((tmp_path / "lost").rglob("*.safetensors")) == []


def test_a_loop_of_ones_own_trains_no_baselines(database):
    """They would be left out silently otherwise."""
    with pytest.raises(InvalidValueError, match=r"baselines are trained by nas\.search"):
        AskTell(replace(SPEC, baselines=(BASELINE,)), database=database)


def test_a_file_with_another_network_is_refused(database, tmp_path):
    """Its figures would be those of the former network."""
    for name in ("vovnet27_slim_cifar", "vovnet39_cifar"):
        (tmp_path / "mine.json").write_text(json.dumps(PUBLISHED[name].to_dict()))
        if name == "vovnet27_slim_cifar":
            search(database, "mine.json")
    with pytest.raises(StudyConflictError, match=r"mine\.json is another network"):
        search(database, "mine.json")


def test_a_baseline_is_shown_beside_the_front(database):
    """In the terminal, as JSON and Markdown, on the page, and as a frame; never as a member."""
    trials, (baseline,) = search(database, BASELINE)
    command = ["front", "beside", "--database", database]
    shown = CliRunner().invoke(main, [*command, "--format", "json"])
    front = json.loads(shown.stdout)
    (row,) = front["baselines"]
    assert row["baseline"] == BASELINE
    assert row["error"] == baseline.evaluation.value("error")
    assert row["beaten_by"] == []  # no network of osa_tiny is as large
    assert {each["trial"] for each in front["members"]} <= {each.number for each in trials}
    for form in ("text", "md"):
        assert BASELINE in CliRunner().invoke(main, [*command, "--format", form]).stdout
    status = CliRunner().invoke(main, ["status", "beside", "--database", database])
    assert "1 of 1 baselines are measured and trained" in status.stdout
    with Store.open(database, read_only=True) as store:
        (drawn,) = contents(read(store, "beside", database))["baselines"]
    assert drawn["values"]["error"] == row["error"]
    study = open_record(database).study("beside")
    assert study.baselines().loc[BASELINE, "error"] == row["error"]
    assert study.plot_front().data[-1].text == (BASELINE,)


def test_members_beat_a_baseline_by_all_objectives():
    """One that is equal in one and better in another does; one that is worse in one does not."""

    def network(number, error, parameters):
        objectives = {"error": error, "macs": parameters}
        reached = rung(metrics=objectives)
        return trial(number, evaluation=Evaluation(rungs=(reached,)))

    baseline = Baseline(name="x", digest="", evaluation=network(0, 0.5, 100).evaluation)
    members = [network(0, 0.5, 90), network(1, 0.4, 110), network(2, 0.5, 100)]
    assert beaten_by(baseline, members, SPEC.objectives) == [0]
    assert beaten_by(Baseline(name="x", digest=""), members, SPEC.objectives) == []


def test_a_network_of_timm_is_counted_and_trained(database, tmp_path):
    """Its counts are those of the built network with the data's ten classes."""
    timm = pytest.importorskip("timm")
    spec = replace(
        SPEC,
        evaluator="classification",
        rungs=rungs_at(0.5),
        data=DataSpec(dataset="digits", validation_images=100, train_images=256),
        training=TrainingSpec(precision="fp32", channels_last=False),
        measurement=MeasurementPlan(image_size=64),
        trained=None,
        baselines=("timm:lcnet_035",),
    )
    network = ForeignNetwork(name="timm:lcnet_035")
    model = timm.create_model("lcnet_035", num_classes=10)
    with (
        Store.open(database) as store,
        open_search(
            spec, store=store, workers=LocalWorkers(), folder=tmp_path, artifacts=tmp_path
        ) as found,
    ):
        assert found.baselines == {"timm:lcnet_035": network}
        trainings = open_baselines(found, store, found.baselines, lambda _: None)
        trainings.run()
        (baseline,) = store.baselines("beside")
    parameters = sum(each.numel() for each in model.parameters())
    assert baseline.evaluation.value("parameters") == parameters
    assert 0 < baseline.evaluation.value("error") < 1
    assert list((tmp_path / "beside").rglob("*.safetensors")) == []  # not needed any more
