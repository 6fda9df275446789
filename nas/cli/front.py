"""`nas front`: the Pareto front of a study."""

from collections.abc import Sequence
from dataclasses import replace

import click

from nas.analysis.finals import latest_results
from nas.analysis.selection import condition, ordered
from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import database_option, open_record, pick_study
from nas.cli.tables import (
    MAX_COMPARED_TRIALS,
    NO_STANDINGS,
    PAGE_ROWS,
    front_table,
    terminal,
)
from nas.core.errors import NasError
from nas.core.pareto import knee as knee_of
from nas.record import StudyRecord
from nas.report import fronts
from nas.report.fronts import ShownFront


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "csv", "json"]),
    default="text",
    show_default=True,
    help="A table for people (text, md), or SI units for programs (csv, json).",
)
@json_option("front")
@click.option(
    "--at",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show the front as it was after N finished trials.",
)
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only members such as 'latency < 4 ms'. May be repeated.",
)
@click.option(
    "--sort",
    metavar="METRIC",
    help="Sort by this figure, the smallest first. [default: the first objective]",
)
@click.option(
    "--knee", is_flag=True, help="Only the best compromise among the members that are left."
)
@click.option(
    "--sure",
    is_flag=True,
    help=f"Show how sure each membership is, also of more than {MAX_COMPARED_TRIALS:,} trials, "
    "which takes some time.",
)
@click.option("--all", "every", is_flag=True, help=f"Show more than {PAGE_ROWS} rows.")
def front(
    *,
    study: str | None,
    database: str,
    form: str,
    as_json: bool,
    at: int | None,
    conditions: tuple[str, ...],
    sort: str | None,
    knee: bool,
    sure: bool,
    every: bool,
) -> None:
    """Show the Pareto front of a study.

    STUDY may be left out if there is only one.
    """
    form = "json" if as_json else form
    selecting = bool(conditions or sort or knee)
    limit = None if every or form != "text" else PAGE_ROWS
    with open_record(database) as store:
        record = pick_study(store, study)
        sure = sure or sum(record.counts.values()) <= MAX_COMPARED_TRIALS
        shown = fronts.read_front(store, record, at, sure=sure, limit=None if selecting else limit)
        finals = latest_results(store.finals(record.name), list(shown.trials.values()))
    if selecting:
        shown = _selected(record, shown, conditions, sort, knee=knee)
    values = record.spec, shown.trials, shown.front
    if form == "json":
        echo_json("front", fronts.front_values(*values, standing_of=shown.standings, finals=finals))
        return
    if form != "text":
        write = {"csv": fronts.as_csv, "md": fronts.as_markdown}[form]
        text = write(*values, standing_of=shown.standings, finals=finals)
        click.echo(text.rstrip("\n"))
        return
    console = terminal()
    console.print(
        front_table(
            record.spec,
            shown.trials,
            shown.front,
            limit=limit,
            standings=shown.standings or NO_STANDINGS,
            finals=finals,
        )
    )
    if limit is not None and len(shown.front.members) > limit:
        console.print(
            "all of them: --all, or --format csv; others first: --sort; some: --where, --knee"
        )
    if shown.unbiased is not None:
        console.print(
            f"trained figures are posterior means over seeds; {shown.unbiased}",
            soft_wrap=not console.is_terminal,
        )


def _selected(
    record: StudyRecord,
    shown: ShownFront,
    conditions: Sequence[str],
    sort: str | None,
    *,
    knee: bool,
) -> ShownFront:
    """Return the members that fulfil every condition, sorted, or only their best compromise."""
    tests = [condition(text, list(shown.trials.values()), record.spec) for text in conditions]
    members = [shown.trials[number] for number in shown.front.members]
    if sort is not None:
        members = ordered(members, sort, record.spec)
    members = [trial for trial in members if all(test(trial) for test in tests)]
    if knee:
        if members and not shown.front.feasible:
            raise NasError("nothing is feasible yet, so there is no compromise to choose")
        members = [knee_of(members, record.spec.objectives)]
    numbers = tuple(trial.number for trial in members)
    return replace(shown, front=replace(shown.front, members=numbers))
