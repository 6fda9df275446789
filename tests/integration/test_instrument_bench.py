"""`nas bench instrument`: the simulated parts, and that neighbours really disturb."""

import json
import resource
import time

from click.testing import CliRunner

from nas.bench.instrument import PARTS, Unguarded, neighbours
from nas.cli import main
from nas.measuring.meters import find_meter


def test_coverage_is_printed_beside_what_is_asked():
    """Two noises, ten sessions each: at least 92 % asked, and the table says whether it holds."""
    lines = (
        CliRunner()
        .invoke(main, ("bench", "instrument", "--part", "coverage", "--sessions", "10", "--json"))
        .stdout
    )
    found = [json.loads(line) for line in lines.splitlines()]
    assert [each["what"] for each in found] == [
        "simulated coverage, noise 0.3%",
        "simulated coverage, noise 1.0%",
    ]
    assert all(each["asked"] == ">= 92 %" and isinstance(each["holds"], bool) for each in found)
    told = CliRunner().invoke(
        main, ("bench", "instrument", "--part", "coverage", "--sessions", "2")
    )
    assert told.exit_code == 0
    assert "simulated coverage" in told.stdout


def test_every_part_can_be_asked_for():
    """An unknown one is one line with those that there are."""
    told = CliRunner().invoke(main, ("bench", "instrument", "--part", "abacus"))
    assert told.exit_code == 2
    assert all(name in told.stderr for name in PARTS)


def test_neighbours_compute_from_their_moment_on():
    """Those of 60 s from now use no more than their start costs; those of now use what they can
    get.
    """

    def used_s(after_s):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with neighbours(after_s=after_s, for_s=1.0):
            time.sleep(1.0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime

    assert used_s(0.1) > 2 * used_s(60.0)


def test_without_guard_nothing_is_seen_of_the_host():
    """All else is the meter's own."""
    with find_meter("cpu") as meter:
        assert Unguarded.of(meter).host_load() is None
        assert Unguarded.of(meter).device is meter.device
