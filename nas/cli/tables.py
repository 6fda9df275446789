"""Tables for a terminal, readable from 40 columns on."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import click
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nas.analysis.finals import FinalResult
from nas.core.pareto import ParetoFront
from nas.core.study import StudySpec
from nas.core.trial import Baseline, Trial
from nas.core.units import format_hypervolume
from nas.report.fronts import (
    NO_FINALS,
    PARAMETERS,
    ShownFront,
    baseline_cells,
    front_cells,
    possible,
)

MAX_COMPARED_TRIALS = 5000
"""In larger studies standings are shown only with `--sure`, since they compare all trials."""
PAGE_ROWS = 50
"""Rows of a front that are shown unless all are asked for."""


@dataclass(frozen=True)
class FittedTable:
    """A table of texts without markup that breaks no word.

    On a narrow terminal its cells wrap between words. If the longest words do not fit side by side,
    each row becomes a list of headings and cells.
    """

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the title, the rows and the caption within the width of the terminal."""
        if self.table.title:
            yield Text(str(self.table.title))
        widths = self._widths(console, options)
        if widths is None:
            yield from self._lists()
        else:
            yield self._grid(widths)
        if self.table.caption:
            yield Text(str(self.table.caption))

    @property
    def _rows(self) -> list[tuple[str, ...]]:
        return list(zip(*(map(str, column.cells) for column in self.table.columns), strict=True))

    def _widths(self, console: Console, options: ConsoleOptions) -> list[int] | None:
        """Return the width of each column; None if the longest words need more room."""
        measured = [
            [Measurement.get(console, options, Text(text)) for text in texts]
            for texts in zip(self._headings, *self._rows, strict=True)
        ]
        widths = [max(text.minimum for text in column) for column in measured]
        needs = [max(text.maximum for text in column) for column in measured]
        borders = 3 * len(widths) + 1
        spare = options.max_width - borders - sum(widths)
        if spare < 0:
            return None
        for left, index in zip(
            range(len(widths), 0, -1),
            sorted(range(len(widths)), key=lambda index: needs[index] - widths[index]),
            strict=True,
        ):
            share = min(needs[index] - widths[index], spare // left)
            widths[index] += share
            spare -= share
        return widths

    def _grid(self, widths: Sequence[int]) -> Table:
        grid = Table(box=box.SIMPLE)
        for column, heading, width in zip(self.table.columns, self._headings, widths, strict=True):
            grid.add_column(Text(heading), justify=column.justify, width=width)
        for row in self._rows:
            grid.add_row(*map(Text, row))
        return grid

    def _lists(self) -> Iterator[RenderableType]:
        first, *others = self._headings
        for row in self._rows:
            yield Text(f"{first} {row[0]}".strip())
            for heading, text in zip(others, row[1:], strict=True):
                yield Padding(Text(f"{heading}: {text}"), (0, 0, 0, 2), expand=False)

    @property
    def _headings(self) -> list[str]:
        return [str(column.header) for column in self.table.columns]


def front_table(
    spec: StudySpec,
    shown: ShownFront,
    *,
    limit: int | None = None,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> FittedTable:
    """Return the members of a front as a table, the lowest first objective first.

    It has at most `limit` members. With standings it shows how sure each membership is. `finals`
    are the results of final trainings, by trial.
    """
    captions = [_front_caption(shown, limit)]
    if shown.standings:
        captions.append(_seeds_caption(spec, shown, limit))
    table = Table(
        title=_front_title(spec, shown.front), caption="\n".join(filter(None, captions)) or None
    )
    limited = {objective.key: objective.limit is not None for objective in spec.objectives}
    headings, *lines = front_cells(spec, shown, limit=limit, finals=finals)
    for heading in headings:
        is_number = heading in ("trial", PARAMETERS) and heading not in limited
        table.add_column(
            f"{heading} (limited)" if limited.get(heading) else heading,
            justify="right" if is_number else "left",
        )
    for line in lines:
        table.add_row(*line)
    return FittedTable(table)


def baseline_table(
    spec: StudySpec, baselines: Sequence[Baseline], members: Sequence[Trial]
) -> FittedTable:
    """Return the baselines as a table, with the members of the front that beat each."""
    table = plain_table(baseline_cells(spec, baselines, members))
    table.title = "baselines, measured and trained like the trials"
    return FittedTable(table)


def _front_title(spec: StudySpec, front: ParetoFront) -> str:
    title = f"front of {spec.name} after {front.after} trials{hypervolume_phrase(spec, front)}"
    if front.members and not front.feasible:
        title += "\nNOTHING IS FEASIBLE YET, these are the least violating"
    return title


def hypervolume_phrase(spec: StudySpec, front: ParetoFront) -> str:
    """Return the hypervolume as the end of a sentence, nothing without one."""
    if front.hypervolume is None:
        return ""
    return f", hypervolume {format_hypervolume(front.hypervolume, spec.reference_box)}"


def _front_caption(shown: ShownFront, limit: int | None) -> str | None:
    members = shown.front.members
    if limit is not None and len(members) > limit:
        return f"and {len(members) - limit} more"
    others = ", ".join(map(str, possible(shown.standings or {})))
    return f"within the intervals perhaps too: {others}" if others else None


def _seeds_caption(spec: StudySpec, shown: ShownFront, limit: int | None) -> str | None:
    """Return a note on figures without an interval, which are those of single trainings."""
    members = [shown.trials[number] for number in shown.front.members[:limit]]
    alone = [
        objective.key
        for objective in spec.objectives
        if any(member.evaluation.best_figure(objective.key) is None for member in members)
    ]
    if not alone:
        return None
    return (
        f"one training each gave the {' and '.join(alone)}, so 'on the front' does not count the "
        "spread over seeds; nas replicate shows it"
    )


def plain_table(lines: Sequence[Sequence[str]]) -> Table:
    """Return a table of texts; the first line has the headings."""
    table = Table(*lines[0])
    for line in lines[1:]:
        table.add_row(*line)
    return table


class Terminal(Console):
    """A console with two ways to print a text that may be longer than a line of the terminal."""

    def sentence(self, text: str) -> None:
        """Print a text that wraps between words on a terminal; elsewhere it is one line."""
        self.print(text, soft_wrap=not self.is_terminal)

    def one_line(self, text: str | Text) -> None:
        """Print a text that is never wrapped, so that it can be pasted."""
        self.print(text, soft_wrap=True)


def terminal(*, stderr: bool = False) -> Terminal:
    """Return a console that prints texts as they are, without markup and colours."""
    return Terminal(highlight=False, markup=False, stderr=stderr)


def draws_over(console: Console) -> bool:
    """Return whether the console shows a live view; Rich draws none on a terminal that is dumb."""
    return console.is_terminal and not console.is_dumb_terminal


def print_table(table: Table) -> None:
    """Print a table within the width of the terminal."""
    terminal().print(FittedTable(table))


def echo_note(line: str) -> None:
    """Print a line beside the results, on standard error."""
    click.echo(line, err=True)


def echo_wide(shown: RenderableType) -> None:
    """Print within the width of the terminal; in its whole width if the output is no terminal.

    A width that the variable COLUMNS names counts as a terminal's.
    """
    console = terminal()
    fitted = FittedTable(shown) if isinstance(shown, Table) else shown
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        console.print(fitted)
        return
    widest = console.measure(shown, options=console.options.update(width=1000)).maximum
    console.width = max(widest, console.width)
    console.print(fitted)
