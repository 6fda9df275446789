"""`nas bench store` writes trials as a search does, and shows rates and latencies."""

import re
import subprocess
import sys

import pytest
from sqlalchemy import event

from nas.bench import store as throughput
from nas.bench.store import NAME, OBJECTIVES
from nas.core.pareto import front
from nas.record import Store

COMMAND = [sys.executable, "-c", "from nas.cli import main; main()", "bench", "store"]


@pytest.mark.slow
@pytest.mark.long
def test_several_processes_write_one_consistent_study(tmp_path):
    """All trials are complete, and the front is the one that a search would have stored. Optuna's
    storage is timed as well.
    """
    database = tmp_path / "nas.db"
    command = [
        *COMMAND,
        "--evaluations",
        "60",
        "--processes",
        "3",
        "--compared",
        "4",
        "--database",
        str(database),
    ]
    output = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    with Store.open(database, read_only=True) as store:
        trials = store.trials(NAME)
        assert store.problems() == []
        assert store.newest_front(NAME).members == front(trials, OBJECTIVES).members
        assert store.hypervolumes(NAME)[-1][1] == pytest.approx(
            front(trials, OBJECTIVES).hypervolume
        )
    assert len({trial.architecture.digest for trial in trials}) == len(trials) == 60
    assert {len(trial.params) for trial in trials} == {12}
    for name in ("osa-nas", "Optuna"):
        assert re.search(rf"{name}, trials written per second by 1 process: [\d.]+\n", output)
    assert re.search(r"osa-nas, trials written per second by 3 processes: [\d.]+\n", output)
    for command in ("nas front", "nas status bench-store", "nas status", "hypervolume history"):
        assert re.search(rf"{command}.* \d+ ms", output)


def test_a_run_continues_after_an_interrupted_one(tmp_path):
    """Several writers leave gaps, but no number is written twice."""
    with Store.open(tmp_path / "nas.db") as store:
        assert throughput.begin(store, 10) == 0
    throughput.write_trials(str(tmp_path / "nas.db"), [0, 1, 4], lambda: None)
    with Store.open(tmp_path / "nas.db") as store:
        assert throughput.begin(store, 10) == 5
        assert store.study(NAME).spec.budget.trials == 15


def test_the_work_of_a_write_does_not_grow_with_the_record(tmp_path):
    """The work is counted in steps of SQLite's virtual machine. Reading all figures of a study
    takes many.
    """
    steps = [0]

    def step():
        steps[0] += 1
        return 0

    def written(store, numbers):
        before = steps[0]
        for number in numbers:
            throughput.write_trial(store, throughput.synthetic_trial(number))
        return (steps[0] - before) / len(numbers)

    with Store.open(tmp_path / "nas.db") as store:
        event.listen(
            store._engine,
            "before_cursor_execute",
            lambda connection, *_: connection.connection.dbapi_connection.set_progress_handler(
                step, 10
            ),
        )
        throughput.begin(store, 400)
        first = written(store, range(10, 30))
        written(store, range(30, 380))
        assert first > 10
        assert written(store, range(380, 400)) < 1.5 * first
