"""The study of noisy trainings: its command on a small table, and the gain of another seed."""

import csv
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "studies" / "noisy-trainings" / "run.py"


@pytest.fixture(scope="module")
def study(script_module):
    """The script as a module."""
    return script_module(SCRIPT)


@pytest.fixture
def table(tmp_path):
    """A table of 81 networks whose error falls with their size; two seeds differ by a point."""
    path = tmp_path / "table.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"choice:c{i}" for i in range(4)), "accuracy:0", "accuracy:1", "cost:c"])
        for values in product([1, 2, 3], repeat=4):
            accuracy = 60 + 8 * np.log(np.prod(values))
            writer.writerow([*values, accuracy - 0.5, accuracy + 0.5, sum(values)])
    return path


def test_every_arm_spends_the_same_trainings(study, table, tmp_path, monkeypatch):
    """A row for each budget, share and report. Only the arms with other seeds repeat networks, and
    no hypervolume is above that of all networks.
    """
    monkeypatch.setattr(study, "BUDGETS", (25, 30))
    output = tmp_path / "rows.csv"
    arguments = [str(table), "--table-format", "csv", "--seeds", "1", "-o", str(output)]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    study.main()
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 4 * 3
    assert {row["repeats"] for row in rows if row["arm"] == "once"} == {"0"}
    assert any(row["repeats"] != "0" for row in rows if row["arm"] == "every fourth")
    assert all(0 < float(row["hypervolume"]) <= 1.00001 for row in rows)


def test_another_seed_gains_most_where_the_mean_may_move(study, table):
    """The gain of every trained network is at least 0, and the best one is among them."""
    read = study.read_table(table, "csv")
    problem = read.problem(with_reference=True)
    chance = np.random.default_rng(0)
    networks = read.networks[chance.choice(81, 20, replace=False)]
    errors = [float(read.errors_of(tuple(n)).mean() + chance.normal()) for n in networks.tolist()]
    trials = [
        study.trial(read, problem, tuple(network), error)
        for network, error in zip(networks.tolist(), errors, strict=True)
    ]
    repeat, gain = study.Repeating(problem, trials).best_repeat()
    assert gain >= 0
    assert repeat.tolist() in networks.tolist()
