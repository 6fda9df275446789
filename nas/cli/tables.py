"""Tables for a terminal."""

from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from nas.analysis.finals import FinalResult
from nas.core.pareto import ParetoFront, Standing
from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.report.fronts import MEMBERSHIP, NO_FINALS, cells, standings_shown

MANY = 5000
"""Trials of a study beyond which how sure a front is, for which all are compared, is told only
where asked.
"""
PAGE = 50
"""Rows of a front that are shown unless all are asked for."""


def front_table(
    spec: StudySpec,
    trials: Mapping[int, Trial],
    front: ParetoFront,
    *,
    limit: int | None = None,
    sure: bool = True,
    finals: Mapping[int, FinalResult] = NO_FINALS,
) -> Table:
    """The members of a front, best first objective first, at most `limit` of them; `sure` tells how
    sure it is that they are on it, for which all trials must be given; `finals` are what final
    trainings gave, by trial.
    """
    volume = "" if front.hypervolume is None else f", hypervolume {front.hypervolume:.5g}"
    title = f"front of {spec.name} after {front.after} trials{volume}"
    if front.members and not front.feasible:
        title += "\nNOTHING IS FEASIBLE YET, these are the least violating"
    table = Table(
        title=Text(title, no_wrap=True),
        box=box.SIMPLE,
        title_justify="left",
        min_width=max(map(len, title.splitlines())) + 2,
    )
    table.add_column("trial", justify="right")
    for objective in spec.objectives:
        table.add_column(
            objective.metric if objective.limit is None else f"{objective.metric} (limited)"
        )
    counted = all(objective.metric != "parameters" for objective in spec.objectives)
    if counted:
        table.add_column("parameters", justify="right")
    known = standings_shown(spec, trials, front, sure=sure)
    if known:
        table.add_column("on the front")
    trained = any(number in finals for number in front.members)
    if trained:
        table.add_column("test error, trained fully")
    for number in front.members[:limit]:
        trial = trials[number]
        parameters = trial.evaluation.value("parameters")
        shown = ["-" if parameters is None else f"{parameters:,.0f}"] if counted else []
        table.add_row(
            str(number),
            *cells(spec.objectives, trial),
            *shown,
            *([MEMBERSHIP[known[number]]] if known else []),
            *([str(finals.get(number, "-"))] if trained else []),
        )
    perhaps = [str(number) for number, standing in known.items() if standing is Standing.POSSIBLE]
    if perhaps:
        table.caption = f"within the intervals perhaps too: {', '.join(perhaps)}"
    if limit is not None and len(front.members) > limit:
        table.caption = f"and {len(front.members) - limit} more"
    return table


def plain_table(lines: Sequence[Sequence[str]]) -> Table:
    """A table of texts, its headings first."""
    table = Table(box=box.SIMPLE)
    for heading in lines[0]:
        table.add_column(heading, no_wrap=True)
    for line in lines[1:]:
        table.add_row(*line)
    return table


def echo_wide(shown: RenderableType) -> None:
    """Print in its whole width, however wide the terminal says it is."""
    console = Console(highlight=False)
    widest = console.measure(shown, options=console.options.update(width=1000)).maximum
    Console(highlight=False, width=max(widest, console.width)).print(shown)
