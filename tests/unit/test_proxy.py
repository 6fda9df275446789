"""Statistics of brief trainings on lines with known errors, and the networks that are trained."""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest

from nas.bench.drawn_networks import draw_networks, read_networks, write_networks
from nas.bench.json_lines import append_line, read_lines
from nas.bench.proxy import proxy_results, truth_of
from nas.core.brief import BriefRecipe
from nas.core.errors import CorruptFileError, InvalidValueError, NasError, StudyFileError
from nas.core.study import AutoPrecision, TrainingSpec, rungs_at
from nas.searching.study_file import read_brief_recipes
from search_spaces import osa_tiny

RECIPES = {name: BriefRecipe(rungs=rungs_at(1)) for name in ("old", "new")}
NETWORKS = [SimpleNamespace(name=str(i), macs=10**i) for i in range(6)]


def line(network, error, *, recipe="truth", seed=0, epochs=1.0, train_s=3.0):
    return {
        "network": str(network),
        "recipe": recipe,
        "seed": seed,
        "epochs": epochs,
        "error": error,
        "train_s": train_s,
        "judge_s": 1.0,
        "reference_s": 2.0,
    }


TRUTH = [line(i, 0.1 * (i + 1)) for i in range(6)]


def test_a_recipe_that_ranks_as_the_truth_has_tau_one():
    """It is above one that ranks the other way round in every sample. Prices are training and
    judging, also in reference trainings. Errors that follow the MACs exactly have no correlation at
    equal MACs.
    """
    brief = [line(i, 0.5 + 0.01 * i, recipe="new") for i in range(6)]
    brief += [line(i, 0.5 - 0.01 * i, recipe="old") for i in range(6)]
    old, new = proxy_results(brief, RECIPES, NETWORKS, truth_of(TRUTH, NETWORKS))
    assert (old.tau.value, old.tau.low, old.tau.high) == (-1, -1, -1)
    assert (new.tau.value, new.better, old.better) == (1, 1, None)
    assert (new.seconds, new.relative, new.correlation) == (4, 2, None)
    assert (new.seed_tau, new.seed_deviation) == (None, None)


def test_two_seeds_are_compared_with_each_other():
    """Errors that differ by 2 points have a deviation of the square root of 2 points; one swap of
    neighbours among six leaves a tau of 13/15.
    """
    first = [0.50, 0.52, 0.60, 0.70, 0.80, 0.90]
    second = [0.52, 0.50, 0.62, 0.72, 0.82, 0.92]
    brief = [
        line(i, errors[i], recipe="old", seed=seed)
        for seed, errors in enumerate((first, second))
        for i in range(6)
    ]
    (result,) = proxy_results(brief, RECIPES, NETWORKS, truth_of(TRUTH, NETWORKS))
    assert result.seed_deviation == pytest.approx(0.02 / 2**0.5)
    assert result.seed_tau.value == pytest.approx(13 / 15)
    assert result.tau.value == pytest.approx((1 + 13 / 15) / 2)


def test_failed_trainings_are_counted_and_left_out():
    """A failed training has no error."""
    brief = [line(i, 0.1 * i, recipe="old") for i in range(5)]
    brief.append({**line(5, None, recipe="old"), "reason": "the training loss is nan"})
    (result,) = proxy_results(brief, RECIPES, NETWORKS, truth_of(TRUTH, NETWORKS))
    assert (result.networks, result.failed, result.tau.value) == (5, 1, 1)


def test_a_recipe_with_too_few_networks_has_no_row():
    """Four of the six networks are too few; if no recipe has more, this is an error."""
    few = [line(i, 0.1 * i, recipe="old") for i in range(4)]
    truth = truth_of(TRUTH, NETWORKS)
    with pytest.raises(NasError, match="no recipe has trained 5"):
        proxy_results(few, RECIPES, NETWORKS, truth)
    (result,) = proxy_results(
        [*few, *(line(i, 0.1 * i, recipe="new") for i in range(6))], RECIPES, NETWORKS, truth
    )
    assert (result.name, result.better) == ("new", None)


def test_the_truth_is_the_last_rung_that_all_networks_have_reached():
    """Its error is the mean of the seeds there."""
    lines = [*TRUTH, line(0, 0.3, seed=1), line(0, 0.05, epochs=2.0), line(7, 0.1, epochs=2.0)]
    truth = truth_of(lines, NETWORKS)
    assert truth.epochs == 1
    assert truth.errors["0"] == pytest.approx(0.2)
    with pytest.raises(NasError, match="1 of the networks"):
        truth_of(lines, NETWORKS[:1])


def drawn(count, low, high):
    macs = low * 1e6, high * 1e6
    return draw_networks(osa_tiny.SPACE, count, macs, seed=5, image_size=32, classes=10)


def test_drawn_networks_are_stratified_and_half_are_set_aside(tmp_path):
    """The separable networks of the space have 1.3 to 1.8 million MACs: one lies in each stratum.

    Networks for development come first, dense and separable ones interleaved.
    """
    networks = drawn(16, 1.3, 1.8)
    assert networks == drawn(16, 1.3, 1.8)
    assert [network.set_aside for network in networks] == [False] * 8 + [True] * 8
    assert [network.architecture.depthwise for network in networks] == [False, True] * 8
    sizes = sorted(each.macs for each in networks if each.architecture.depthwise)
    bounds = [1.3e6 * (1.8 / 1.3) ** (k / 8) for k in range(9)]
    for size, (low, high) in zip(sizes, pairwise(bounds), strict=True):
        assert low <= size < high
    write_networks(tmp_path / "networks.jsonl", networks)
    assert read_networks(tmp_path / "networks.jsonl") == networks


def test_an_empty_stratum_takes_the_network_next_in_size():
    """No dense network has fewer than 2.9 million MACs. The smallest ones take these places."""
    dense = [each for each in drawn(8, 1.3, 1.8) if not each.architecture.depthwise]
    assert sorted(each.macs for each in dense) == [2994496, 2996352, 3191104, 3192960]
    with pytest.raises(InvalidValueError, match="only 64 networks of a kind, too few for 100"):
        drawn(200, 1.3, 1.8)


@pytest.mark.parametrize(
    ("count", "low", "high", "message"),
    [(10, 1, 2, "a multiple of 4, not 10"), (8, 2, 2, "two increasing"), (8, 0, 2, "two increas")],
)
def test_numbers_that_make_no_strata_are_refused(count, low, high, message):
    with pytest.raises(InvalidValueError, match=message):
        drawn(count, low, high)


def test_a_file_of_something_else_holds_no_networks(tmp_path):
    append_line(tmp_path / "truth.jsonl", {"network": "a", "macs": 1})
    with pytest.raises(CorruptFileError, match="no network"):
        read_networks(tmp_path / "truth.jsonl")


def test_lines_are_appended_whole(tmp_path):
    """A torn line is named with its place, and does not join with the next one."""
    path = tmp_path / "lines.jsonl"
    assert read_lines(path) == []
    append_line(path, {"a": 1})
    append_line(path, {"a": 2})
    assert read_lines(path) == [{"a": 1}, {"a": 2}]
    path.write_text(path.read_text() + '{"a"')
    append_line(path, {"a": 3})
    assert json.loads(path.read_text().splitlines()[-1]) == {"a": 3}
    with pytest.raises(CorruptFileError, match=r"lines\.jsonl:3"):
        read_lines(path)


def test_recipes_take_the_rest_of_their_training_from_the_study(tmp_path):
    """Wrong keys are named with the recipe."""
    path = tmp_path / "proxies.yaml"
    path.write_text(
        "a: {rungs: [{epochs: 0.5, image_size: 16}], training: {batch_size: 32}, flips: true}\n"
        "b: {rungs: [{images: 900}]}\n"
    )
    training = TrainingSpec(precision=AutoPrecision.FP32, batch_size=128)
    recipes = read_brief_recipes(path, training)
    assert list(recipes) == ["a", "b"]
    assert recipes["a"].training.precision == "fp32"
    assert recipes["a"].training.batch_size == 32
    assert recipes["b"].training == training
    path.write_text("a: {rungs: [{epochs: 1}], flip: true}\nb: {rungs: [], judges: 0}\nc: 3\n")
    with pytest.raises(StudyFileError) as caught:
        read_brief_recipes(path, training)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["a", "b", "c"]
