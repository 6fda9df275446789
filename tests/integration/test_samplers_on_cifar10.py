"""The sampler comparison with real training: its script searches, resumes and compares."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from nas.analysis.posterior import unbiased_hypervolume
from nas.core.pareto import front
from nas.record import Store

SCRIPT = Path(__file__).parents[2] / "studies" / "samplers-on-cifar10" / "run.py"
SMALL = """
name: comparison
space: osa_tiny
objectives: [{metric: error, reference: 100 %}, {metric: macs, reference: 10 M}]
rungs: {epochs: [0.1]}
data: {dataset: digits, validation_images: 200}
budget: {trials: 3, device_s: 60}
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_comparison_resumes_and_compares_at_equal_device_seconds(tmp_path):
    """A second call with one more seed does not change the first seed's studies, and evaluates all
    fronts with new seeds.
    """
    (tmp_path / "study.yaml").write_text(SMALL)
    command = [
        sys.executable,
        str(SCRIPT),
        "--study",
        str(tmp_path / "study.yaml"),
        "-o",
        str(tmp_path / "results"),
    ]
    for more in (["--seeds", "1"], ["--seeds", "2", "--fresh", "1"]):
        completed = subprocess.run([*command, *more], check=True, capture_output=True, text=True)
    with Store.open(tmp_path / "results" / "nas.db", read_only=True) as store:
        searches = {
            (record.spec.sampler, record.spec.seed): store.trials(record.name)
            for record in store.studies()
        }
        spec = store.study("random-1").spec
        hypervolumes = {
            key: store.newest_front(f"{key[0]}-{key[1]}").hypervolume for key in searches
        }
    assert set(searches) == {
        (sampler, seed) for sampler in ("known-cost", "tpe", "random") for seed in (1, 2)
    }
    lines = completed.stdout.splitlines()
    table = {
        line.split(" | ")[0]: line.split(" | ")
        for line in lines[lines.index("hypervolume in millionths") + 2 :]
    }
    for sampler, cells in table.items():
        assert cells[1] == ", ".join(str(len(searches[sampler, seed])) for seed in (1, 2))
        assert cells[-2].endswith(
            f"({', '.join(f'{1e6 * hypervolumes[sampler, seed]:.0f}' for seed in (1, 2))})"
        )
        values = [unbiased_hypervolume(searches[sampler, seed], spec).fresh for seed in (1, 2)]
        assert cells[-1].endswith(f"({', '.join(f'{1e6 * value:.0f}' for value in values)})")
    with (tmp_path / "results" / "curves.csv").open(newline="") as file:
        last = {
            (row["sampler"], int(row["seed"])): float(row["hypervolume"])
            for row in csv.DictReader(file)
        }
    assert last == hypervolumes
    with (tmp_path / "results" / "fresh.csv").open(newline="") as file:
        again = {
            (row["sampler"], int(row["seed"]), int(row["trial"])) for row in csv.DictReader(file)
        }
    assert again == {
        (*key, number)
        for key, trials in searches.items()
        for number in front(trials, spec.objectives).members
    }
