"""Means over seeds and what luck there was in a front, against figures worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from nas.analysis.posterior import unbiased_hypervolume, with_posterior_means
from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import Measurement
from nas.core.pareto import Standing, front, standings
from nas.core.study import Objective
from nas.core.trial import Evaluation, Replicate, Rung, Trial, TrialState
from nas.report.fronts import cells

OBJECTIVES = (Objective(metric="error", reference=1.0), Objective(metric="macs", reference=10.0))


def rung(error: float) -> Rung:
    return Rung(epochs=1, error=error, train_loss=1.0, images=1, train_s=0.0, validation_s=0.0)


def trial(number: int, macs: float, error: float, *fresh: float) -> Trial:
    """A complete trial with replicates of these errors."""
    stage = OsaStage(mid_channels=8, out_channels=16 + number, num_layers=2)
    evaluation = Evaluation(
        measurements={"macs": Measurement.counted("macs", "1", macs)},
        rungs=(rung(error),),
        replicates=tuple(
            Replicate(seed=seed, rungs=(rung(one),)) for seed, one in enumerate(fresh)
        ),
    )
    return Trial(
        number=number,
        params={},
        architecture=Architecture(stem_channels=(8, 8, 8), stages=(stage,) * 3),
        seed=1,
        evaluation=evaluation,
        state=TrialState.COMPLETE,
    )


TRIALS = [
    trial(0, 2, 0.10, 0.30, 0.20),
    trial(1, 4, 0.05, 0.07),
    trial(2, 3, 0.15),
    trial(3, 5, 0.9),
]
"""Deviations from the means: 0.1, 0.1 and 0 of trial 0, 0.01 and 0.01 of trial 1: 0.0202 in all, 3
degrees of freedom. Trial 2 was dominated by the lucky training of trial 0, and is not by its mean
of 0.2.
"""
HALF = 3.182446 * (0.0202 / 3) ** 0.5
"""Student's t at 97.5 % with 3 degrees of freedom (any table: 3.182) times the pooled deviation."""


def test_the_mean_over_all_seeds_counts():
    """The front is chosen anew by means; counts stay. Four networks are too few to say what others
    have.
    """
    means = with_posterior_means(TRIALS)
    assert [t.evaluation.value("error") for t in means] == pytest.approx([0.2, 0.06, 0.15, 0.9])
    assert front(TRIALS, OBJECTIVES).members == (1, 0)
    assert front(means, OBJECTIVES).members == (1, 2, 0)
    assert [t.evaluation.value("macs") for t in means] == [2, 4, 3, 5]


def test_intervals_are_pooled_and_shrink_with_seeds():
    """Half widths by hand; a share does not leave [0, 1]; a network of one seed has the widest."""
    figures = [t.evaluation.measurements["error"] for t in with_posterior_means(TRIALS)]
    assert figures[0].ci_high - 0.2 == pytest.approx(HALF / 3**0.5, rel=1e-5)
    assert figures[1].ci_high - 0.06 == pytest.approx(HALF / 2**0.5, rel=1e-5)
    assert figures[2].ci_high - 0.15 == pytest.approx(HALF, rel=1e-5)
    assert (figures[1].ci_low, figures[3].ci_high) == (0.0, 1.0)
    assert [figure.samples for figure in figures] == [
        (0.1, 0.3, 0.2),
        (0.05, 0.07),
        (0.15,),
        (0.9,),
    ]


def test_spread_makes_memberships_uncertain():
    """Without replicates both members are certain; with them only what no interval reaches is."""
    assert standings(TRIALS, OBJECTIVES)[1] is Standing.CERTAIN
    known = standings(with_posterior_means(TRIALS), OBJECTIVES)
    assert known == {
        0: Standing.CERTAIN,
        1: Standing.PROBABLE,
        2: Standing.PROBABLE,
        3: Standing.DOMINATED,
    }


def test_without_replicates_nothing_changes():
    """Neither values nor intervals."""
    single = [replace(t, evaluation=replace(t.evaluation, replicates=())) for t in TRIALS]
    assert with_posterior_means(single) == single
    assert unbiased_hypervolume(single, OBJECTIVES) is None


def test_the_best_of_many_is_drawn_towards_networks_of_its_size():
    """200 networks whose errors fall with their size and scatter by 2 %, trained once with 2 % of
    noise, every tenth twice more. Of the ten that looked best the posterior means are right on
    average where the plain ones are not, all are nearer to the truth, and some 95 % of the
    intervals hold it. The weight of one training is a half, as made.
    """
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(0, 3, 200))
    truth = 0.5 - 0.08 * np.log(size) + rng.normal(0, 0.02, 200)
    seen = truth[:, None] + rng.normal(0, 0.02, (200, 3))
    trials = [trial(i, size[i], *seen[i, : 3 if i % 10 == 0 else 1]) for i in range(200)]
    trials = [
        replace(
            t,
            evaluation=t.evaluation.with_measurements(
                [Measurement.counted("parameters", "1", size[t.number])]
            ),
        )
        for t in trials
    ]
    found = with_posterior_means(trials)
    means = np.array([t.evaluation.value("error") for t in found])
    ends = np.array(
        [
            (t.evaluation.measurements["error"].ci_low, t.evaluation.measurements["error"].ci_high)
            for t in found
        ]
    )
    once = np.arange(200) % 10 != 0
    beyond = seen[:, 0] - (0.5 - 0.08 * np.log(size))
    lucky = np.flatnonzero(once)[beyond[once].argsort()[:10]]
    assert (truth - seen[:, 0])[lucky].mean() > 0.015
    assert abs((truth - means)[lucky].mean()) < 0.01
    assert np.sqrt(((truth - means) ** 2).mean()) < 0.8 * np.sqrt(
        ((truth - seen[:, 0]) ** 2).mean()
    )
    assert 0.92 < ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() < 0.99
    weight = np.polyfit(beyond[once], means[once] - (0.5 - 0.08 * np.log(size[once])), 1)[0]
    assert weight == pytest.approx(0.5, abs=0.1)


def test_the_honest_hypervolume_knows_no_lucky_seed():
    """Unions of rectangles by hand: as searched (0.9 x 8 and 0.05 x 6), by fresh means (0.75 x 8
    and 0.18 x 6).
    """
    found = unbiased_hypervolume(TRIALS, OBJECTIVES)
    assert (found.members, found.replicated) == (2, 2)
    assert found.searched == pytest.approx(0.9 * 8 + 0.05 * 6)
    assert found.fresh == pytest.approx(0.75 * 8 + 0.18 * 6)


def test_a_front_member_without_fresh_seeds_counts_in_neither():
    """Else the two would not be of the same networks."""
    found = unbiased_hypervolume(
        [TRIALS[0], replace(TRIALS[1], evaluation=replace(TRIALS[1].evaluation, replicates=()))],
        OBJECTIVES,
    )
    assert (found.members, found.replicated) == (2, 1)
    assert (found.searched, found.fresh) == (pytest.approx(0.9 * 8), pytest.approx(0.75 * 8))


def test_a_terminal_tells_how_many_seeds():
    """With the interval, in per cent."""
    assert cells(OBJECTIVES[:1], with_posterior_means(TRIALS)[0]) == [
        "20.00 %  [4.92 % to 35.08 %], 3 seeds"
    ]
