"""Joules of all that a study does, real work by a counter that shows 50 W of every second, as few machines have one."""

import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.meters.cpu import CpuMeter
from nas.report.quantities import duration
from nas.search.closing import uncertified
from nas.search.launch import open_search
from nas.store import Store
from nas.study import Budget, DataSpec, Objective, RungSpec, StudySpec, TrainingSpec
from workers.local import LocalWorkers

WATTS = 50.0
SPEC = StudySpec(
    name="ledger", space="osa_tiny", sampler="random", budget=Budget(trials=2, fresh=0), seed=3,
    objectives=(Objective(metric="error", reference=1.0), Objective(metric="latency", reference=1.0)),
    data=DataSpec(dataset="digits", validation_images=100, train_images=640), rungs=RungSpec(epochs=(1.0, 2.0)),
    training=TrainingSpec(precision="fp32", channels_last=False))


@pytest.fixture
def counted(monkeypatch, tmp_path):
    monkeypatch.setattr(CpuMeter, "energy_j", lambda _: WATTS * time.perf_counter())
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def search(store, listener=lambda _: None):
    return open_search(SPEC, store=store, workers=LocalWorkers(), folder=Path(), artifacts=Path("kept"),
                       listener=listener)


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_work_and_engine_have_their_joules():
    """Whoever decides takes a tenth of a second for every event: no work's joules, but the engine's. Work and engine
    together drew what the trials lasted."""
    with Store.open("nas.db") as store:
        with search(store, lambda _: time.sleep(0.1)) as found:
            found.run()
        known, trials = store.summary("ledger"), store.trials("ledger")
    spent = known.spent
    assert len(trials) == 2
    assert spent.energy_j == pytest.approx(WATTS * (spent.device_s + spent.waiting_s), rel=0.05)
    assert spent.measuring_j >= WATTS * spent.measuring_s
    lasted = sum((trial.finished_at - trial.started_at).total_seconds() for trial in trials)
    events = sum(2 + len(trial.evaluation.rungs) for trial in trials)  # counted, measured, and each rung
    assert 0.1 * (events - len(trials)) * WATTS <= known.engine_j
    assert spent.energy_j + known.engine_j == pytest.approx(WATTS * lasted, rel=0.05, abs=0.2 * len(trials) * WATTS)
    shown = CliRunner().invoke(main, ["status", "ledger"]).output
    assert " J more of the engine" in shown


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_certifying_and_final_trainings_have_their_joules():
    """Each member has its share of the session's; of final trainings as of seconds, whole epochs and judging."""
    with Store.open("nas.db") as store:
        with search(store) as found:
            found.run()
            before, members = store.summary("ledger").spent, uncertified(found.engine)
            found.certify(members, evaluator="tests.integration.test_closing:Quick")
            known = store.summary("ledger").spent
        assert store.problems() == []
        took = known.measuring_s - before.measuring_s
        assert known.measuring_j - before.measuring_j == pytest.approx(WATTS * took, rel=0.05)
        assert known.energy_j - before.energy_j == pytest.approx(known.measuring_j - before.measuring_j)
    Path("recipe.yaml").write_text("epochs: 2\ntraining: {batch_size: 64}\n")
    train = ["train", "ledger", "--trial", "0", "--seeds", "2", "--recipe", "recipe.yaml"]
    assert CliRunner().invoke(main, train, catch_exceptions=False).exit_code == 0
    with Store.open("nas.db") as store:
        first, second = store.finals("ledger")
        spent = store.summary("ledger").spent_finally
    assert (spent.epochs, spent.energy_j) == (4.0, first.energy_j + second.energy_j)
    assert spent.energy_j == pytest.approx(WATTS * spent.device_s, rel=0.1)
    assert f"final trainings: 2, 4 epochs, {duration(spent.device_s)} of device time, {spent.energy_j:.3g} J" in (
        CliRunner().invoke(main, ["status", "ledger"]).output)
