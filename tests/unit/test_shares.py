"""Shares of the latency on a clock where every part takes equally long, while other processes hold
the cores now and then.
"""

from itertools import count

import pytest

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import UnavailableError
from nas.core.measurement import MeasurementPlan
from nas.measuring.latency_shares import Share, latency_shares
from nas.testing.fake_meter import FakeMeter

NETWORK = Architecture(
    stem=Stem.CIFAR,
    stem_channels=(8, 8, 8),
    stages=(OsaStage(mid_channels=8, out_channels=16, num_layers=1),) * 3,
)
PLAN = MeasurementPlan(image_size=32, threads=1, max_time_s=2)
MARKS = 6
"""Number of times that the device is synchronised in a run."""


class Held(FakeMeter):
    """Every part takes a millisecond. Another process holds the cores for a second at every mark
    whose number is a multiple of `every`.
    """

    def __init__(self, every):
        super().__init__()
        self._marks, self._every = count(), every

    def synchronize(self):
        """Let the time of one part pass."""
        held = next(self._marks) % self._every == self._every - 1
        self.work(1.0 if held else 0.001)
        self.waited_s += held


@pytest.fixture(autouse=True)
def _locks(tmp_path, monkeypatch):
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path))


def test_a_run_in_which_others_held_the_cores_does_not_count():
    """In one of every five runs a part seems to take a second, which leaves the shares equal."""
    shares, runs = latency_shares(NETWORK, 10, PLAN, Held(every=5 * MARKS))
    assert list(shares) == ["stem", "stage 2", "stage 3", "stage 4", "classifier"]
    assert [share.median for share in shares.values()] == pytest.approx([0.2] * 5)
    assert all(
        isinstance(share, Share) and share.high - share.low < 1e-9 for share in shares.values()
    )
    assert 1 < runs < 5 * PLAN.max_time_s


def test_shares_are_refused_if_others_hold_the_cores_in_every_run():
    """Each run is delayed in one part, so the reason replaces the shares."""
    with pytest.raises(
        UnavailableError,
        match=r"not timed: other processes held the cores in (\d+) of \1 runs; stop",
    ):
        latency_shares(NETWORK, 10, PLAN, Held(every=MARKS - 1))
