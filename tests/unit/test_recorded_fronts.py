"""Recorded fronts of real searches in `studies/`: today's code computes the same fronts from the
same trials.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from nas.core.dominance import ranks
from nas.core.plugins import load
from nas.searching.study_file import read_study

STUDIES = [
    Path(__file__).parents[2] / "studies" / name
    for name in ("beyond-vovnet27", "beyond-vovnet27-middle")
]


@pytest.fixture(params=STUDIES, ids=lambda path: path.name)
def study(request):
    return request.param


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_front_of_the_recorded_trials_is_the_recorded_front(study):
    """The same members have the same order and figures."""
    trials, recorded = rows(study / "trials.csv"), rows(study / "front.csv")
    (limit,) = (
        o.limit for o in read_study(study / "study.yaml").objectives if o.metric == "latency"
    )
    losses = np.array([[float(each[name]) for name in ("error", "latency")] for each in trials])
    within = losses[:, 1] <= limit
    members = np.flatnonzero(within)[ranks(losses[within]) == 0]
    members = members[losses[members, 0].argsort()]
    assert [trials[i]["trial"] for i in members] == [each["trial"] for each in recorded]
    assert losses[members] == pytest.approx(
        np.array([[float(e["error"]), float(e["latency"])] for e in recorded])
    )
    assert [trials[i]["digest"][:12] for i in members] == [each["digest"] for each in recorded]


def test_the_recorded_choices_still_mean_the_recorded_networks(study):
    """Each trial's params decode to the network with the recorded digest."""
    space = load("nas.spaces", read_study(study / "study.yaml").space)
    for each in rows(study / "trials.csv"):
        assert space.decode(json.loads(each["params"])).digest == each["digest"]
