"""Energy of everything that a study does.

The work is real. The energy counter is simulated at 50 W, because few machines have one.
"""

import time
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.study import Budget, DataSpec, Objective, StudySpec, TrainingSpec, rungs_at
from nas.core.units import format_duration, format_quantity
from nas.measuring.meters.cpu import CpuMeter
from nas.record import Store
from nas.searching.closing import uncertified
from nas.searching.evaluators.classification.evaluator import Evaluator
from nas.searching.launch import open_search
from workers.local import LocalWorkers

WATTS = 50.0
SPEC = StudySpec(
    name="ledger",
    space="osa_tiny",
    sampler="random",
    budget=Budget(trials=2, fresh=0),
    seed=3,
    objectives=(
        Objective(metric="error", reference=1.0),
        Objective(metric="latency", reference=1.0),
    ),
    data=DataSpec(dataset="digits", validation_images=100, train_images=640),
    rungs=rungs_at(1.0, 2.0),
    training=TrainingSpec(precision="fp32", channels_last=False),
)


class Timed(Evaluator):
    """Stores when the work of each task began, and when its last result was ready."""

    worked: ClassVar[dict[int, tuple[float, float]]] = {}

    def steps(self, task):
        """Yield the events of the base class."""
        begun = time.perf_counter()
        for event in super().steps(task):
            self.worked[task.number] = begun, time.perf_counter()
            yield event


@pytest.fixture
def energy_counter(monkeypatch, tmp_path):
    monkeypatch.setattr(Timed, "worked", {})
    monkeypatch.setattr(CpuMeter, "energy_j", lambda _: WATTS * time.perf_counter())
    # What else runs on this machine must not make a figure contended.
    monkeypatch.setattr(CpuMeter, "host_load", lambda _: None)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def search(store, listener=lambda _: None):
    return open_search(
        SPEC,
        store=store,
        workers=LocalWorkers(),
        folder=Path(),
        artifacts=Path("artifacts"),
        listener=listener,
        evaluator=f"{__name__}:Timed",
    )


@pytest.mark.slow
@pytest.mark.usefixtures("energy_counter")
def test_energy_of_the_work_and_of_the_engine_is_recorded():
    """The listener takes 0.1 s for every event, which is energy of the engine. Both together are
    all energy from the beginning of each trial's work to its last result.
    """
    with Store.open("nas.db") as store:
        with search(store, lambda _: time.sleep(0.1)) as found:
            found.run()
        summary, trials = store.summary("ledger"), store.trials("ledger")
    spent = summary.spent
    assert len(trials) == 2
    assert spent.energy_j == pytest.approx(WATTS * (spent.device_s + spent.waiting_s), rel=0.05)
    assert spent.measuring_j >= WATTS * spent.measuring_s
    worked = sum(done - begun for begun, done in Timed.worked.values())
    # Counting, measuring and each rung give one event each.
    events = sum(2 + len(trial.evaluation.rungs) for trial in trials)
    assert 0.1 * (events - len(trials)) * WATTS <= summary.engine_j
    assert spent.energy_j + summary.engine_j == pytest.approx(WATTS * worked, rel=0.05)
    output = CliRunner().invoke(main, ["status", "ledger"]).output
    assert " J more of the engine" in output


@pytest.mark.slow
@pytest.mark.usefixtures("energy_counter")
@pytest.mark.long
def test_energy_of_certifying_and_of_final_trainings_is_recorded():
    """Each member gets its share of the session. Final trainings count whole epochs and the test,
    for energy as for seconds.
    """
    with Store.open("nas.db") as store:
        with search(store) as found:
            found.run()
            before, members = store.summary("ledger").spent, uncertified(found.engine)
            found.certify(members, evaluator="tests.integration.test_closing:Quick")
            after = store.summary("ledger").spent
        assert store.problems() == []
        seconds = after.measuring_s - before.measuring_s
        measuring_j = after.measuring_j - before.measuring_j
        assert measuring_j == pytest.approx(WATTS * seconds, rel=0.05)
        assert after.energy_j - before.energy_j == pytest.approx(measuring_j)
    Path("recipe.yaml").write_text("epochs: 1\ntraining: {batch_size: 64}\n")
    train = ["train", "ledger", "--trial", "0", "--seeds", "2", "--recipe", "recipe.yaml"]
    assert CliRunner().invoke(main, train, catch_exceptions=False).exit_code == 0
    with Store.open("nas.db") as store:
        first, second = store.finals("ledger")
        spent = store.summary("ledger").spent_finally
    assert (spent.epochs, spent.energy_j) == (2.0, first.energy_j + second.energy_j)
    assert spent.energy_j == pytest.approx(WATTS * spent.device_s, rel=0.05)
    line = (
        f"final trainings: 2, 2 epochs, {format_duration(spent.device_s)} of device time, "
        f"{format_quantity(spent.energy_j, 'J')}"
    )
    assert line in CliRunner().invoke(main, ["status", "ledger"]).output
