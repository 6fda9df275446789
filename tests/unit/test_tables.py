"""Tables are readable from 40 columns on."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from nas.cli.tables import FittedTable, front_table
from nas.core.measurement import Measurement
from nas.core.pareto import ParetoFront, Standing
from nas.core.study import Objective
from nas.core.trial import Evaluation, TrialState
from nas.report.fronts import ShownFront
from nas.testing.sample_records import latency, rung, spec, trial

HEADINGS = ("study", "trials", "hypervolume", "data", "begun (UTC)")
ROWS = [
    (f"a-rather-long-name-{number}", "11 complete, 9 stopped, 1 failed", "▁▂▃▄", "cifar10", "now")
    for number in range(16)
]


def drawn(width: int, rows: list[tuple[str, ...]] = ROWS, **options: str) -> str:
    """Return what a terminal of this width shows."""
    table = Table(*HEADINGS, **options)
    for row in rows:
        table.add_row(*row)
    console = Console(width=width, file=io.StringIO(), markup=False, highlight=False)
    with console.capture() as capture:
        console.print(FittedTable(table))
    return capture.get()


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80, 100, 160])
def test_no_word_is_cut_and_no_line_is_too_long(width: int) -> None:
    """Every word of every heading and cell stands whole in the output."""
    text = drawn(width, title="studies of this record", caption="and 3 more of them")
    words = " ".join(["studies of this record and 3 more of them", *HEADINGS, *map(" ".join, ROWS)])
    shown = text.replace(":", " ").split()
    assert {word.rstrip(":") for word in words.split()} <= set(shown)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_rows_become_lists_only_if_the_words_do_not_fit() -> None:
    """A list begins with the first heading and its cell, and names each further heading."""
    assert "  trials: 11 complete, 9 stopped, 1" in drawn(40)
    assert "study a-rather-long-name-3\n" in drawn(40)
    assert "trials:" not in drawn(80)


def test_a_table_that_fits_is_not_wrapped() -> None:
    """Each row is one line."""
    lines = [line for line in drawn(120).splitlines() if "a-rather-long-name" in line]
    assert len(lines) == len(ROWS)
    assert all("11 complete, 9 stopped, 1 failed" in line for line in lines)


def test_brackets_are_shown_as_they_are() -> None:
    """A name that looks like a colour to Rich is a name."""
    row = ("[red]name[/red]", "[1 to 2]", "", "", "")
    assert "[red]name[/red]" in drawn(100, [row])
    assert "[red]name[/red]" in drawn(30, [row])


def front_of_two(**figures: Measurement) -> str:
    """Return the table of a front of two trained networks with these figures besides latency."""
    evaluation = Evaluation(rungs=(rung(),), measurements={"latency": latency(), **figures})
    trials = {
        number: trial(number, evaluation=replace(evaluation), state=TrialState.COMPLETE)
        for number in (0, 1)
    }
    front = ParetoFront(members=(0, 1), hypervolume=None, after=2, feasible=True)
    standings = dict.fromkeys(trials, Standing.CERTAIN)
    shown = ShownFront(front=front, trials=trials, standings=standings)
    study = spec(objectives=(Objective(metric="error"), Objective(metric="latency")))
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(front_table(study, shown))
    return capture.get()


def test_errors_of_single_trainings_are_named_as_such() -> None:
    """Their spread over seeds is unknown; a mean over seeds has an interval."""
    note = "one training each gave the error"
    assert note in front_of_two()
    assert "gave the latency" not in front_of_two()
    mean = replace(latency(), metric="error", value=0.3, ci_low=0.2, ci_high=0.4)
    assert note not in front_of_two(error=mean)
