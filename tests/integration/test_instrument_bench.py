"""`nas bench instrument`: the simulated parts, and the processes that disturb a measurement."""

import json
import resource
import time

import pytest
from click.testing import CliRunner
from output_schemas import differences

from nas.bench.instrument import PARTS, Unguarded, neighbours
from nas.cli import main
from nas.measuring.meters import find_meter


@pytest.mark.long
def test_coverage_is_printed_beside_the_requirement():
    """At both levels of noise at least 92 % is required, and the table shows whether this holds."""
    lines = (
        CliRunner()
        .invoke(main, ("bench", "instrument", "--part", "coverage", "--sessions", "10", "--json"))
        .stdout
    )
    checks = [json.loads(line) for line in lines.splitlines()]
    assert not [line for check in checks for line in differences("bench instrument", check)]
    assert [check["what"] for check in checks] == [
        "simulated coverage, noise 0.3%",
        "simulated coverage, noise 1.0%",
    ]
    assert {check["asked"] for check in checks} == {">= 92 %"}
    assert all(isinstance(check["holds"], bool) for check in checks)
    outcome = CliRunner().invoke(
        main, ("bench", "instrument", "--part", "coverage", "--sessions", "2")
    )
    assert outcome.exit_code == 0
    assert "simulated coverage" in outcome.stdout


def test_an_unknown_part_is_refused_with_the_names_of_all_parts():
    """The command exits with 2."""
    outcome = CliRunner().invoke(main, ("bench", "instrument", "--part", "abacus"))
    assert outcome.exit_code == 2
    assert all(name in outcome.stderr for name in PARTS)


def test_neighbours_begin_to_compute_at_the_given_time():
    """Processes that begin in 60 s use CPU time only to start. Those that begin now use all that
    is available.
    """

    def used_s(after_s):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with neighbours(after_s=after_s, for_s=1.0):
            time.sleep(1.0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime

    assert used_s(0.1) > 2 * used_s(60.0)


def test_without_guard_the_load_of_the_host_is_not_observed():
    """All other attributes are those of the meter."""
    with find_meter("cpu") as meter:
        assert Unguarded.of(meter).host_load() is None
        assert Unguarded.of(meter).device is meter.device
