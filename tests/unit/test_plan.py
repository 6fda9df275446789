"""What brief trainings say about a search: intervals that hold the true values, and arithmetic.

Errors with known deviations are drawn from normal distributions. Figures of real trainings are
those of `studies/cifar10-replay`, 48 networks that were all trained for an epoch.
"""

import csv
from pathlib import Path

import numpy as np
import pytest

from nas.analysis.planning import (
    Tried,
    expected_lead,
    lead_with_new_seeds,
    noise_of,
    outlooks,
    share_for_seeds,
    tau_interval,
)
from nas.analysis.rank_agreement import Interval, kendall_tau
from nas.bench.candidates import NETWORKS, Pace, candidates
from nas.bench.plan import Planner
from nas.cli.plan import _flow, _rung
from nas.core.errors import NasError
from nas.core.study import Budget, Objective, RungSpec, StudySpec
from nas.searching.forecast import networks_by_limit
from nas.searching.profile import reduced_side
from nas.searching.yaml_file import parse_yaml
from search_spaces import osa_cifar, osa_detection, osa_tiny

REPLAY = Path(__file__).parents[2] / "studies" / "cifar10-replay"
DRAWS = 600
"""Simulated plans; the share of intervals that hold deviates by 0.009 between such numbers."""
LEAST = 0.95 - 3 * 0.009


def holds(interval, value):
    """Return whether the interval holds the value."""
    return interval.low <= value <= interval.high


@pytest.mark.parametrize(("between", "seeds"), [(2.0, 1.5), (2.0, 0.5), (1.0, 2.0)])
def test_intervals_of_deviations_hold_the_true_values(between, seeds):
    """Eight networks with two seeds. The order of two networks is simulated, not computed."""
    rng = np.random.default_rng(1)
    own = between * rng.standard_normal((2, 100_000))
    errors = own + seeds * rng.standard_normal(own.shape)
    right = np.mean((own[0] < own[1]) == (errors[0] < errors[1]))
    shape = DRAWS, 8, 1
    errors = between * rng.standard_normal(shape) + seeds * rng.standard_normal((DRAWS, 8, 2))
    found = [noise_of(each) for each in errors]
    assert np.mean([holds(noise.seeds, seeds) for noise in found]) >= LEAST
    assert np.mean([holds(noise.between, between) for noise in found]) >= LEAST
    assert np.mean([holds(noise.right_order, right) for noise in found]) >= LEAST


@pytest.mark.parametrize(("networks", "noise"), [(8, 0.3), (8, 1.0), (12, 2.0)])
def test_the_interval_of_tau_holds_the_true_value(networks, noise):
    """Tau of two noisy seeds with a noisy yardstick. The true value is that of 2,000 networks."""
    rng = np.random.default_rng(2)

    def taus(count):
        own = rng.standard_normal(count)
        yardstick = own + noise / 2 * rng.standard_normal(count)
        pairs = (own + noise * rng.standard_normal(count) for _ in range(2))
        return float(np.mean([kendall_tau(each, yardstick) for each in pairs]))

    true = np.mean([taus(2000) for _ in range(5)])
    intervals = [tau_interval(taus(networks), networks) for _ in range(DRAWS // 2)]
    assert np.mean([holds(each, true) for each in intervals]) >= 0.95 - 3 * 0.0126


def replayed(rung):
    """Return errors at a rung by network and seed, of the 16 networks with two seeds."""
    tables = []
    for name in ("curves", "second-seeds"):
        rows = csv.DictReader((REPLAY / f"{name}.csv").read_text().splitlines())
        tables.append({row["trial"]: float(row[f"error:{rung}"]) for row in rows})
    first, second = tables
    return {name: {0: first[name], 1: error} for name, error in second.items()}


@pytest.mark.parametrize("rung", ["0.15", "0.4"])
def test_plans_from_eight_real_networks_hold_the_values_of_sixteen(rung):
    """Nineteen in twenty of a hundred plans from different networks."""
    errors = replayed(rung)
    yardstick = {name: seeds[0] for name, seeds in replayed("1").items()}
    rng, held = np.random.default_rng(3), []

    def figures(names):
        tried = Tried(name=rung, errors={name: errors[name] for name in names}, networks=100)
        tau = outlooks([tried], {name: yardstick[name] for name in names})[rung].tau
        return tried.noise.seeds, tried.noise.between, tried.noise.right_order, tau

    whole = figures(list(errors))
    for _ in range(100):
        part = figures(list(rng.choice(list(errors), 8, replace=False)))
        held.append([holds(each, true.value) for each, true in zip(part, whole, strict=True)])
    assert np.mean(held, axis=0).min() >= 0.95


def test_a_difference_that_is_smallest_difference_is_seldom_made_by_seeds():
    """Two means of three trainings of one network differ by more in 5 % of the cases."""
    rng = np.random.default_rng(4)
    noise = noise_of(rng.standard_normal((2000, 2)))
    means = rng.standard_normal((2, 100_000, 3)).mean(axis=2)
    assert np.mean(
        np.abs(means[0] - means[1]) > noise.smallest_difference(3).value
    ) == pytest.approx(0.05, abs=0.01)


def test_too_few_networks_say_nothing():
    """Neither do single seeds, or seeds that give equal errors."""
    rng = np.random.default_rng(5)
    assert noise_of(rng.standard_normal((4, 2))) is None
    assert noise_of(rng.standard_normal((9, 1))) is None
    assert noise_of(np.ones((9, 2))) is None
    assert tau_interval(0.5, 4) is None
    assert tau_interval(0.1, 6).is_vague(2)
    assert not tau_interval(0.8, 12).is_vague(2)


def test_leads_are_those_of_simulated_searches():
    """The best of n normal values. New seeds of the front help noisy trainings only."""
    rng = np.random.default_rng(6)
    for networks in (3, 30, 300):
        largest = rng.standard_normal((4000, networks)).max(axis=1).mean()
        assert expected_lead(networks) == pytest.approx(largest, abs=0.05)
        assert lead_with_new_seeds(networks, 1.0, 0.0) == pytest.approx(largest, abs=0.05)
    assert lead_with_new_seeds(60, 0.3, 0.2) > lead_with_new_seeds(60, 0.3, 0.0) + 0.2
    assert share_for_seeds(60, Interval(value=1.0, low=1.0, high=1.0)).value == 0
    assert share_for_seeds(60, Interval(value=0.3, low=0.2, high=0.4)).value > 0


def test_the_recipe_that_ranks_as_the_yardstick_is_best():
    """One that ranks at random is no rival of it, and its equal is. More networks break the tie."""
    rng = np.random.default_rng(7)
    yardstick = {str(k): float(k) for k in range(20)}

    def tried(name, networks, errors):
        by_network = {key: {0: error} for key, error in zip(yardstick, errors, strict=True)}
        return Tried(name=name, networks=networks, errors=by_network)

    expected = outlooks(
        [
            tried("right", 50, range(20)),
            tried("cheaper", 100, range(20)),
            tried("random", 100, rng.standard_normal(20)),
        ],
        yardstick,
    )
    assert (expected["right"].tau.value, expected["cheaper"].best) == (1, 1)
    assert expected["right"].lead.value == pytest.approx(expected_lead(50))
    assert expected["cheaper"].rivals == ()
    assert expected["right"].rivals == ("cheaper",)
    assert set(expected["random"].rivals) == {"right", "cheaper"}


def test_a_budget_trains_so_many_networks():
    """A limit that a network does not use up does not count."""
    budget = Budget(trials=1000, wall_time_s=100, device_s=90, epochs=4)
    networks = networks_by_limit(budget, each_s=5.0, device_s=9.0, epochs=0.5)
    assert networks == {"trials": 1000, "wall_time_s": 20, "device_s": 10, "epochs": 8}
    networks = networks_by_limit(Budget(epochs=4), each_s=5.0, device_s=9.0, epochs=0.0)
    assert networks == {"trials": 100}


PACE = Pace(per_image_s={32: 1e-3, 16: 2e-4, 12: 1e-4}, judges=3000, fewest=640)


def test_candidates_last_equally_long_or_half_of_it():
    """All trainings of ten networks take the given time; judging an image takes a third."""
    chosen = candidates(PACE, total_s=1200)
    full, *smaller = [PACE.seconds([(rung.images, rung.image_size or 32)]) for rung in chosen.rungs]
    assert [rung.image_size for rung in chosen.rungs] == [None, 16, 16, 12, 12]
    assert full == pytest.approx(chosen.longest_s, rel=0.05)
    assert smaller == pytest.approx([full, full / 2] * 2, rel=0.1)
    first, last = chosen.yardstick
    yardstick_s = PACE.seconds([(first.images, 16), (last.images - first.images, 32)])
    assert yardstick_s == pytest.approx(4 * full, rel=0.1)
    assert chosen.network_s == pytest.approx(2 * (full + sum(smaller)) + yardstick_s)
    assert NETWORKS * chosen.network_s == pytest.approx(1200, rel=0.1)


def test_full_images_are_left_out_if_the_time_is_too_short():
    """They would be judged after fewer steps than are worth a comparison."""
    chosen = candidates(PACE, total_s=180)
    assert chosen.without_full
    assert [rung.image_size for rung in chosen.rungs] == [16, 16, 12, 12]
    assert candidates(PACE, total_s=1e6, most_s=2.0).longest_s == pytest.approx(2, rel=0.05)
    assert candidates(PACE, total_s=0).rungs == (
        RungSpec(images=640, image_size=16),
        RungSpec(images=640, image_size=12),
    )


@pytest.mark.parametrize(
    ("space", "side", "share", "reduced"),
    [(osa_cifar, 32, 0.5, 16), (osa_cifar, 32, 0.375, 12), (osa_tiny, 8, 0.5, 8)],
)
def test_images_are_reduced_to_an_even_side_of_eight_pixels_or_more(space, side, share, reduced):
    assert reduced_side(space.SPACE, side, share) == reduced


def test_reduced_images_are_large_enough_for_the_networks():
    """Networks for detection reduce images by 32."""
    assert 32 <= reduced_side(osa_detection.SPACE, 48) <= 48


def test_a_study_that_trains_nothing_has_no_plan(tmp_path):
    spec = StudySpec(name="costs", space="osa_tiny", objectives=(Objective(metric="macs"),))
    with pytest.raises(NasError, match="this study trains nothing"):
        Planner(spec, tmp_path, 1.0)


def test_the_rungs_of_a_plan_can_be_pasted():
    """Also those of which the image size is chosen by the search."""
    rung = RungSpec(epochs=0.5, image_size="auto")
    assert parse_yaml(f"rungs: [{_flow(_rung(rung))}]") == {
        "rungs": [{"epochs": 0.5, "image_size": "auto"}]
    }


def test_networks_over_a_limit_cost_their_measurements(tmp_path):
    """Of four networks one is over a limit, and one cannot be measured. With 1 s of measuring and
    10 s of training, a network costs 12 s of device time.
    """
    spec = StudySpec(
        name="s",
        space="osa_tiny",
        objectives=(Objective(metric="error"),),
        budget=Budget(trials=1000, device_s=120.0, fresh=0),
    )
    planner = Planner(spec, tmp_path, limit_s=1.0)
    planner._alone_s, planner._building_s = [1.0] * 4, [0.0] * 4
    planner._macs = [1, 1]
    planner._seconds["brief"], planner._epochs["brief"] = [10.0], 1.0
    assert planner._budgeted("brief")[1] == 10
