"""Means over seeds and the selection bias of a front equal figures computed by hand."""

from dataclasses import replace

import numpy as np
import pytest

from nas.analysis.posterior import unbiased_hypervolume, with_posterior_means
from nas.core.architecture import Architecture, OsaStage
from nas.core.measurement import Measurement
from nas.core.pareto import Standing, front, standings
from nas.core.study import Objective, StudySpec
from nas.core.trial import Evaluation, Replicate, Rung, Trial, TrialState
from nas.report.fronts import cells

SPEC = StudySpec(
    name="spread",
    space="osa_tiny",
    objectives=(Objective(metric="error", reference=1.0), Objective(metric="macs", reference=10.0)),
)
OBJECTIVES = SPEC.objectives


def rung(error: float) -> Rung:
    return Rung(epochs=1, metrics={"error": error})


def trial(number: int, macs: float, error: float, *replicates: float) -> Trial:
    """Make a complete trial with replicates of these errors."""
    stage = OsaStage(mid_channels=8, out_channels=16 + number, num_layers=2)
    evaluation = Evaluation(
        measurements={"macs": Measurement.counted("macs", "1", macs)},
        rungs=(rung(error),),
        replicates=tuple(
            Replicate(seed=seed, rungs=(rung(one),)) for seed, one in enumerate(replicates)
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
"""Deviations from the means are 0.1, 0.1 and 0 for trial 0, and 0.01 and 0.01 for trial 1. Their
squares add up to 0.0202, with 3 degrees of freedom. The searched error of trial 0 dominates trial
2, but its mean of 0.2 does not.
"""
HALF = 3.182446 * (0.0202 / 3) ** 0.5
"""Student's t at 97.5 % with 3 degrees of freedom (any table: 3.182) times the pooled deviation."""


def test_errors_become_means_over_all_seeds():
    """The front is computed from the means, and counts stay. Four networks are too few to shrink
    the means.
    """
    means = with_posterior_means(TRIALS, SPEC)
    assert [t.evaluation.value("error") for t in means] == pytest.approx([0.2, 0.06, 0.15, 0.9])
    assert front(TRIALS, OBJECTIVES).members == (1, 0)
    assert front(means, OBJECTIVES).members == (1, 2, 0)
    assert [t.evaluation.value("macs") for t in means] == [2, 4, 3, 5]


def test_intervals_have_a_pooled_deviation_and_shrink_with_seeds():
    """Half widths are computed by hand. A share stays in [0, 1], and a network of one seed has the
    widest interval.
    """
    figures = [t.evaluation.measurements["error"] for t in with_posterior_means(TRIALS, SPEC)]
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


def test_the_scatter_of_seeds_makes_memberships_uncertain():
    """Without replicates both members are certain. With them, only a trial that no interval reaches
    is.
    """
    assert standings(TRIALS, OBJECTIVES)[1] is Standing.CERTAIN
    standing_of = standings(with_posterior_means(TRIALS, SPEC), OBJECTIVES)
    assert standing_of == {
        0: Standing.CERTAIN,
        1: Standing.PROBABLE,
        2: Standing.PROBABLE,
        3: Standing.DOMINATED,
    }


def test_without_replicates_nothing_changes():
    """Neither values nor intervals change."""
    single = [replace(t, evaluation=replace(t.evaluation, replicates=())) for t in TRIALS]
    assert with_posterior_means(single, SPEC) == single
    assert unbiased_hypervolume(single, SPEC) is None


def test_the_best_of_many_is_shrunk_towards_networks_of_its_size():
    """200 networks have errors that fall with their size and scatter by 2 %. They are trained once
    with 2 % of noise, every tenth twice more. For the ten that looked best, the posterior means are
    unbiased and the plain errors are not. All means are nearer to the truth, and some 95 % of the
    intervals contain it. The weight of one training is a half, by construction.
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
    posterior = with_posterior_means(trials, SPEC)
    means = np.array([t.evaluation.value("error") for t in posterior])
    ends = np.array(
        [
            (t.evaluation.measurements["error"].ci_low, t.evaluation.measurements["error"].ci_high)
            for t in posterior
        ]
    )
    once = np.arange(200) % 10 != 0
    deviation = seen[:, 0] - (0.5 - 0.08 * np.log(size))
    best = np.flatnonzero(once)[deviation[once].argsort()[:10]]
    assert (truth - seen[:, 0])[best].mean() > 0.015
    assert abs((truth - means)[best].mean()) < 0.01
    assert np.sqrt(((truth - means) ** 2).mean()) < 0.8 * np.sqrt(
        ((truth - seen[:, 0]) ** 2).mean()
    )
    assert 0.92 < ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean() < 0.99
    weight = np.polyfit(deviation[once], means[once] - (0.5 - 0.08 * np.log(size[once])), 1)[0]
    assert weight == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("state", [TrialState.STOPPED, TrialState.FAILED, TrialState.RUNNING])
def test_networks_that_were_not_trained_to_the_end_change_no_mean(state):
    """Their errors are those of fewer epochs. They keep them, without an interval."""
    complete, early = [], []
    for number in range(12):
        made = trial(number, 1.0 + number, 0.01 * number, 0.02 * number)
        size = Measurement.counted("parameters", "1", 1.0 + number)
        known = made.evaluation.with_measurements([size])
        complete.append(replace(made, evaluation=known))
        known = replace(known, rungs=(rung(0.9),), replicates=())
        early.append(replace(made, number=12 + number, state=state, evaluation=known))
    means = with_posterior_means([*complete, *early], SPEC)
    assert means[12:] == early

    def ends(trials):
        figures = [each.evaluation.measurements["error"] for each in trials]
        return [(figure.value, figure.ci_low, figure.ci_high) for figure in figures]

    assert ends(means[:12]) == ends(with_posterior_means(complete, SPEC))


def test_the_unbiased_hypervolume_uses_only_new_seeds():
    """Unions of rectangles by hand: as searched 0.9 x 8 and 0.05 x 6, by means of new seeds 0.75 x
    8 and 0.18 x 6.
    """
    volume = unbiased_hypervolume(TRIALS, SPEC)
    assert (volume.members, volume.replicated) == (2, 2)
    assert volume.searched == pytest.approx(0.9 * 8 + 0.05 * 6)
    assert volume.fresh == pytest.approx(0.75 * 8 + 0.18 * 6)


def test_a_front_member_without_new_seeds_counts_in_neither_hypervolume():
    """Otherwise the two would not be of the same networks."""
    volume = unbiased_hypervolume(
        [TRIALS[0], replace(TRIALS[1], evaluation=replace(TRIALS[1].evaluation, replicates=()))],
        SPEC,
    )
    assert (volume.members, volume.replicated) == (2, 1)
    assert (volume.searched, volume.fresh) == (pytest.approx(0.9 * 8), pytest.approx(0.75 * 8))


def test_a_terminal_shows_the_number_of_seeds():
    """The interval is shown in per cent."""
    assert cells(
        replace(SPEC, objectives=OBJECTIVES[:1]), with_posterior_means(TRIALS, SPEC)[0]
    ) == ["20.00 %  [4.92 % to 35.08 %], 3 seeds"]
