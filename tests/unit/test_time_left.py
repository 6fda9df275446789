"""The estimate of the time left: by the budget that is spent most, and never 0 s beside work."""

from types import SimpleNamespace

import pytest

from nas.cli.progress import time_left
from nas.core.study import Budget
from nas.core.trial import Usage


def engine(elapsed_s, finished, running, **budget):
    """The parts of an engine that the estimate reads."""
    state = SimpleNamespace(num_finished=finished, running=[None] * running, spent=Usage())
    spec = SimpleNamespace(search_budget=Budget(**budget))
    return SimpleNamespace(elapsed_s=lambda: elapsed_s, state=state, spec=spec)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (engine(10, 0, 2, trials=8), "time left unknown"),
        (engine(10, 2, 2, trials=8), "about 30 s left"),
        (engine(80, 2, 2, trials=100, wall_time_s=100), "about 20 s left"),
        (engine(130, 2, 2, trials=100, wall_time_s=100), "the budget is spent, trials at work: 2"),
        (engine(100, 2, 0, trials=100, wall_time_s=100), "about 0 s left"),
    ],
)
def test_the_time_left(given, text):
    assert time_left(given) == text
