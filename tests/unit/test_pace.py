"""The expected seconds of the next network."""

import pytest

from nas.searching.pace import MIN_NETWORKS, WINDOW, Pace


def pace_of(*networks):
    """Return the pace after networks of these MACs and seconds."""
    pace = Pace()
    for macs, seconds in networks:
        pace.add(macs, seconds)
    return pace


def test_nothing_is_expected_of_too_few_networks():
    """Two networks give no estimate, three do."""
    networks = [(1e6, 5.0), (2e6, 6.0), (3e6, 7.0)]
    assert pace_of(*networks[: MIN_NETWORKS - 1]).expected_s(1e6) is None
    assert pace_of(*networks).expected_s(5e6) == pytest.approx(9.0)


def test_one_disturbed_network_hardly_matters():
    """Four seconds and one for each million MACs are found beside a network that took a minute."""
    networks = [(macs * 1e6, 4.0 + macs) for macs in range(1, 9)]
    assert pace_of(*networks, (4e6, 60.0)).expected_s(20e6) == pytest.approx(24.0, rel=0.05)


@pytest.mark.parametrize(
    ("networks", "expected_s"),
    [
        ([(2e6, 4.0), (2e6, 6.0), (2e6, 5.0)], 5.0),  # nothing is known of other sizes
        ([(1e6, 9.0), (2e6, 6.0), (3e6, 5.0)], 6.0),  # larger networks cannot be expected earlier
        ([(2e6, 1.0), (3e6, 3.0), (4e6, 5.0)], 10.0),  # and no network takes less than nothing
    ],
)
def test_neither_part_is_negative(networks, expected_s):
    """The estimate is a constant, or a multiple of the MACs, where the line would be impossible."""
    assert pace_of(*networks).expected_s(10e6) == pytest.approx(expected_s)


def test_only_the_latest_networks_count():
    """A machine that has become slower is believed."""
    early, late = [(1e6, 1.0)] * WINDOW, [(1e6, 3.0)] * WINDOW
    assert pace_of(*early, *late).expected_s(1e6) == pytest.approx(3.0)
