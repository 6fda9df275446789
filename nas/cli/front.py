"""`nas front`: the Pareto front of a study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from nas.analysis.finals import latest_results, on_images_of_the_study
from nas.analysis.selection import condition, ordered
from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import command_to_paste, database_option, open_record, pick_study
from nas.cli.tables import (
    MAX_COMPARED_TRIALS,
    PAGE_ROWS,
    baseline_table,
    front_table,
    terminal,
)
from nas.core.errors import NasError
from nas.core.pareto import knee as knee_of
from nas.core.study import StudySpec
from nas.record import StudyRecord
from nas.record.conditions import conditions as conditions_of
from nas.report import fronts
from nas.report.fronts import ShownFront

if TYPE_CHECKING:
    from nas.analysis.on_device import FrontOnDevice
    from nas.record import Store


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
@click.option(
    "--device",
    metavar="NAME",
    help="Show the front as it stands on this device, by the figures of nas remeasure --device.",
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
    device: str | None,
    every: bool,
) -> None:
    """Show the Pareto front of a study.

    STUDY may be left out if there is only one. With --device it says which members fall off the
    front there, and which were not measured there.
    """
    form = "json" if as_json else form
    selecting = bool(conditions or sort or knee or device)
    limit = None if every or form != "text" else PAGE_ROWS
    with open_record(database) as store:
        record = pick_study(store, study)
        is_small = sum(record.counts.values()) <= MAX_COMPARED_TRIALS
        sure = sure or is_small or device is not None  # nas remeasure takes the same front
        baselines = [] if device else store.baselines(record.name)  # they have no figures there
        shown = fronts.read_front(
            store, record, at, sure=sure, limit=None if selecting or baselines else limit
        )
        finals = latest_results(
            on_images_of_the_study(store.finals(record.name)), list(shown.trials.values())
        )
        there = None if device is None else _on_device(store, record, shown, device)
    spec, members = record.spec, list(shown.trials.values())
    if there is not None:
        spec, shown = there.spec, _shown_there(there, shown)
    if selecting:
        shown = _selected(spec, shown, conditions, sort, knee=knee)
    stated = conditions_of(replace(record, spec=spec), shown.trials.values())
    if form == "json":
        facts = fronts.front_values(
            spec, shown, finals=finals, baselines=baselines, conditions=stated
        )
        if there is not None:
            facts |= {"device": device, "fallen": there.fallen, "missing": there.missing}
        echo_json("front", facts)
        return
    if form != "text":
        writers: Mapping[str, Callable[..., str]] = {
            "csv": partial(fronts.as_csv, conditions=stated),
            "md": partial(fronts.as_markdown, baselines=baselines),
        }
        text = writers[form](spec, shown, finals=finals)
        click.echo(text.rstrip("\n"))
        return
    console = terminal()
    console.print(front_table(spec, shown, limit=limit, finals=finals))
    for line in _device_lines(there, device, database):
        console.sentence(line)
    if limit is not None and len(shown.front.members) > limit:
        console.print(
            "all of them: --all, or --format csv; others first: --sort; some: --where, --knee"
        )
    if baselines:
        console.print(baseline_table(spec, baselines, members))
    if shown.unbiased is not None:
        console.sentence(f"trained figures are posterior means over seeds; {shown.unbiased}")


def _on_device(
    store: "Store", record: StudyRecord, shown: ShownFront, device: str
) -> "FrontOnDevice":
    """Return the shown front with the figures of this device."""
    from nas.analysis.on_device import front_on_device

    members = [shown.trials[number] for number in shown.front.members]
    return front_on_device(record.spec, members, store.singles_of(record.name, members), device)


def _shown_there(there: "FrontOnDevice", shown: ShownFront) -> ShownFront:
    """Return the front on a device, after as many trials as the study's own."""
    return ShownFront(
        front=replace(there.front, after=shown.front.after),
        trials=there.trials,
        standings=there.standings,
    )


def _device_lines(
    there: "FrontOnDevice | None", device: str | None, database: str
) -> Iterator[str]:
    """Return which members of the study's front are not shown on a device, and why."""
    if there is None or device is None:
        return
    if there.fallen:
        reasons = ", ".join(f"{number} ({reason})" for number, reason in there.fallen.items())
        yield f"off the front on {device}: {reasons}"
    if there.missing:
        words = ("remeasure", there.spec.name, "--device", device)
        command = command_to_paste(*words, database=database)
        yield f"not measured on {device}: {', '.join(map(str, there.missing))}; {command}"


def _selected(
    spec: StudySpec,
    shown: ShownFront,
    conditions: Sequence[str],
    sort: str | None,
    *,
    knee: bool,
) -> ShownFront:
    """Return the members that fulfil every condition, sorted, or only their best compromise."""
    tests = [condition(text, list(shown.trials.values()), spec) for text in conditions]
    members = [shown.trials[number] for number in shown.front.members]
    if sort is not None:
        members = ordered(members, sort, spec)
    members = [trial for trial in members if all(test(trial) for test in tests)]
    if knee:
        if members and not shown.front.feasible:
            raise NasError("nothing is feasible yet, so there is no compromise to choose")
        members = [knee_of(members, spec.objectives)]
    numbers = tuple(trial.number for trial in members)
    return replace(shown, front=replace(shown.front, members=numbers))
