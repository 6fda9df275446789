"""The contest within a limit: its script searches, trains again with new seeds, and resumes."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from nas.core.pareto import front
from nas.record import Store

SCRIPT = Path(__file__).parents[2] / "studies" / "within-a-limit" / "run.py"
STUDY = """
name: contest
space: osa_tiny
objectives: [{metric: error, reference: 90 %}, {metric: macs}]
rungs: [{epochs: 3, image_size: auto}]
data: {dataset: digits, validation_images: 200}
training: {precision: fp32, channels_last: true}
budget: {trials: 2, device_s: 60, fresh: 0}
"""
ARMS = """
nsga2: {sampler: nsga2}
whole: {sampler: random, rungs: [{epochs: 4}]}
"""


@pytest.fixture(scope="module")
def contest(tmp_path_factory):
    """Run one seed and then two; return the folder, the rows of both and the table."""
    folder = tmp_path_factory.mktemp("contest")
    (folder / "study.yaml").write_text(STUDY)
    (folder / "arms.yaml").write_text(ARMS)
    results = folder / "results"
    command = [sys.executable, str(SCRIPT), "--study", str(folder / "study.yaml")]
    rows = []
    for seeds in ("1", "2"):
        completed = subprocess.run(
            [*command, "-o", str(results), "--seeds", seeds],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "--table prints them" in completed.stdout
        with (results / "searches.csv").open(newline="") as file:
            rows.append(list(csv.DictReader(file)))
    printed = subprocess.run(
        [*command, "--table", str(results / "searches.csv")],
        check=True,
        capture_output=True,
        text=True,
    )
    return results, rows, printed.stdout


@pytest.mark.slow
@pytest.mark.long
def test_every_arm_has_every_seed_and_the_same_limit(contest):
    """Three of a hundred random networks keep it. A second call leaves the first seed's searches as
    they are.
    """
    results, (first, both), _ = contest
    assert [(row["arm"], row["seed"]) for row in both] == [
        (arm, seed) for seed in "12" for arm in ("nsga2", "whole")
    ]
    assert [{**row} for row in both if row["seed"] == "1"] == first
    with Store.open(results / "nas.db", read_only=True) as store:
        specs = [store.study(f"{row['arm']}-{row['seed']}").spec for row in both]
        kept = sorted(t.evaluation.value("macs") for t in store.trials("nsga2-1"))
    assert len({spec.objectives[1].limit for spec in specs}) == 1
    assert {spec.rungs[0].image_size for spec in specs} == {16, None}
    assert kept  # every proposal has its cost


@pytest.mark.slow
@pytest.mark.long
def test_networks_of_the_fronts_are_judged_by_new_seeds(contest):
    """By the mean of two other trainings with the template's rungs."""
    results, (_, rows), output = contest
    with Store.open(results / "nas.db", read_only=True) as store:
        judges = [store.trials(f"judge-{seed}") for seed in (101, 102)]
        for row in rows:
            name = f"{row['arm']}-{row['seed']}"
            trials, objectives = store.trials(name), store.study(name).spec.objectives
            found = [t for t in trials if t.number in set(front(trials, objectives).members)]
            assert len(found) == int(row["front"]) >= 1
            best = min(found, key=lambda trial: trial.evaluation.value("error"))
            again = [
                trial.evaluation.value("error")
                for judge in judges
                for trial in judge
                if trial.architecture == best.architecture and trial.duplicate_of is None
            ]
            assert len(again) == 2
            assert float(row["judged"]) == pytest.approx(sum(again) / 2)
            assert best.evaluation.value("macs") <= objectives[1].limit
        spec = store.study("judge-101").spec
    assert spec.rungs[0].image_size == 16
    whole = [row for row in rows if row["arm"] == "whole"]
    trained = ", ".join(row["trained"] for row in whole)
    mean = sum(100 * float(row["judged"]) for row in whole) / 2
    assert f"whole | {trained} | {mean:.2f} (" in output
    assert len({row["judged"] for row in rows}) > 1
