"""Use of a budget, as `nas status` and the progress line show it."""

from pathlib import Path

from click.testing import CliRunner

from nas.cli import main
from nas.cli.status import spending
from nas.core.study import Budget, Objective, StudySpec
from nas.core.trial import TrialState, Usage
from nas.record import Summary

FOLDER = Path(__file__).parents[2]

SPENT = Usage(
    epochs=12.5, measuring_s=30, training_s=3600, validation_s=120, waiting_s=45, energy_j=None
)


def summary(spent, replicates=0, spent_again=Usage(), **others):  # noqa: B008 - frozen
    beside = {"engine_j": None, "finals": 0, "spent_finally": Usage(), **others}
    return Summary(
        counts=dict.fromkeys(TrialState, 1),
        repeated=0,
        skipped=0,
        searched_s=4000,
        spent=spent,
        engine_s=75.0,
        replicates=replicates,
        spent_again=spent_again,
        failed=(),
        running=(),
        **beside,
    )


def test_spending_is_shown_without_limits():
    """Waiting is no device time, and energy that was not measured is not zero."""
    first, second = spending(Budget(trials=10), summary(SPENT))
    assert first.startswith("1 h 06 min of searching")
    assert first.endswith("45 s waiting for the device, 1 min 15 s of the engine")
    assert second == "12.5 epochs, 1 h 02 min of device time, energy not measured"


def test_spending_of_other_seeds_is_shown():
    """Their share of the budget is shown too, even before they begin."""
    budget, again = Budget(trials=18), Usage(epochs=6, training_s=240, validation_s=12)
    assert list(spending(budget, summary(SPENT), fresh=0.1))[2:] == [
        "other seeds: 0 trainings, 0 epochs, 0 s of device time; 10 % of the budget, at the end"
    ]
    again_line = "other seeds: 2 trainings, 6 epochs, 4 min 12 s of device time"
    assert list(spending(budget, summary(SPENT, 2, again)))[2:] == [again_line]
    assert list(spending(budget, summary(SPENT, 2, again + Usage(energy_j=7.5)), fresh=0.1))[
        2:
    ] == [f"{again_line}, 7.5 J; 10 % of the budget, at the end"]


def test_spending_of_final_trainings_is_shown():
    finally_ = Usage(epochs=90, training_s=600, validation_s=1)
    lines = list(spending(Budget(trials=10), summary(SPENT, finals=3, spent_finally=finally_)))
    assert lines[2:] == ["final trainings: 3, 90 epochs, 10 min 01 s of device time"]


def test_the_budget_share_of_the_search_is_shown():
    """The displayed limit is not that of the study file."""
    budget = StudySpec(
        name="s",
        space="osa_tiny",
        objectives=(Objective(metric="error"),),
        budget=Budget(trials=20, epochs=50),
    ).search_budget
    lines = list(spending(budget, summary(SPENT), fresh=0.1))
    assert lines[2] == "budget of epochs, 90 % of it for the search: 12.5 of 45 spent, 32.5 left"


def test_the_remaining_amount_of_each_limited_resource_is_shown():
    """A budget that was exceeded has nothing left."""
    budget = Budget(trials=10, epochs=20, device_s=3000, energy_j=100, wall_time_s=4600)
    lines = list(
        spending(budget, summary(SPENT + Usage(energy_j=25.0, measuring_j=10.0), engine_j=1.5))
    )[1:]
    energy = "25 J (10 J of it measuring), 1.5 J more of the engine"
    assert lines == [
        f"12.5 epochs, 1 h 02 min of device time, {energy}",
        "budget of searching: 1 h 06 min of 1 h 16 min spent, 10 min 00 s left",
        "budget of epochs: 12.5 of 20 spent, 7.5 left",
        "budget of device time: 1 h 02 min of 50 min 00 s spent, 0 s left",
        "budget of energy: 25 J of 100 J spent, 75 J left",
    ]


def test_usage_adds_up():
    """The sum of measured and missing energies is that of the measured ones."""
    assert (SPENT + Usage(energy_j=2.0) + Usage(energy_j=1.5)).energy_j == 3.5
    assert (SPENT + SPENT).energy_j is None
    assert (SPENT + SPENT).device_s == 2 * 3750


def test_bench_stopping_shows_every_rule(tmp_path):
    """It reads a file of curves and draws a plot. A study with too few networks is refused."""
    table = "studies/cifar10-replay/curves.csv"
    ran = CliRunner().invoke(
        main,
        [
            "bench",
            "stopping",
            "--table",
            str(FOLDER / table),
            "--seeds",
            "2",
            "--plot",
            str(tmp_path / "plot.svg"),
        ],
    )
    assert ran.exit_code == 0, ran.output
    for words in (
        "no stopping",
        "futility",
        "halving",
        "of the best quarter",
    ):
        assert words in ran.output
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    few = tmp_path / "few.csv"
    few.write_text("".join((FOLDER / table).read_text().splitlines(keepends=True)[:4]))
    refused = CliRunner().invoke(main, ["bench", "stopping", "--table", str(few)])
    assert refused.exit_code == 2
    assert "3 networks reached the last rung; a replay needs 8" in refused.output
    unwritable = CliRunner().invoke(
        main, ["bench", "stopping", "--table", str(FOLDER / table), "--keep", str(few / "kept.csv")]
    )
    assert (unwritable.exit_code, unwritable.output.count("\n")) == (2, 1)
    assert "kept.csv cannot be written" in unwritable.output
