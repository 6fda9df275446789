"""The study of one-shot against dense aggregation: its command trains, goes on, and compares."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "studies" / "osa-vs-dense" / "run.py"


@pytest.fixture(scope="module")
def study(script_module):
    """The script as a module."""
    return script_module(SCRIPT)


@pytest.mark.slow
@pytest.mark.long
def test_training_goes_on_where_it_stopped_and_gives_the_hypothesis_its_number(study, tmp_path):
    """A second call with one more seed leaves the first one's files alone; maps before training are
    the seed's own.
    """
    command = [
        sys.executable,
        str(SCRIPT),
        "short",
        "--only",
        "densenet40",
        "--data",
        "digits",
        "--epochs",
        "0.1",
        "-o",
        str(tmp_path),
    ]
    subprocess.run([*command, "--seeds", "1"], check=True, capture_output=True)
    first = (tmp_path / "densenet40-0.json").stat().st_mtime_ns
    subprocess.run([*command, "--seeds", "2"], check=True, capture_output=True)
    assert (tmp_path / "densenet40-0.json").stat().st_mtime_ns == first
    runs = {"densenet40": [study.trained("densenet40", seed, tmp_path) for seed in (0, 1)]}
    lines = list(study.hypothesis(runs))
    assert [(line["seed"], line["training"], line["block"]) for line in lines] == [
        (seed, when, f"block {block}")
        for seed in (0, 1)
        for when in ("before", "after")
        for block in (1, 2, 3)
    ]
    assert all(-1 <= line["correlation"] <= 1 and line["sources"] == 12 for line in lines)
    assert lines[0]["correlation"] != lines[3]["correlation"] != lines[6]["correlation"]
    assert runs["densenet40"][0].result["images"] == 128


def test_the_networks_have_equal_macs(study):
    """Within a tenth of DenseNet-40's."""
    macs = {
        name: study.count_operations(study.Target(name=name, network=make()), 32).macs
        for name, make in study.NETWORKS.items()
    }
    assert all(abs(macs[name] / macs["densenet40"] - 1) < 0.1 for name in ("osa_12_20", "osa_5_43"))
    assert macs["vovnet27_slim_bottleneck"] < macs["vovnet27_slim"]
