"""`nas plan`: how to spend a study's budget, from a few minutes of training."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from nas.cli import main
from nas.cli.group import INTERRUPTED
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import PRESENT_FILE
from nas.cli.tables import draws_over, echo_wide, terminal
from nas.core.errors import InvalidValueError
from nas.core.study import RungSpec, StudySpec
from nas.core.units import format_duration, format_quantity

if TYPE_CHECKING:
    from nas.analysis.planning import Outlook
    from nas.analysis.rank_agreement import Interval
    from nas.bench.plan import RecipePlan, StudyPlan

COMPARED_SEEDS = (1, 2, 3, 5)
"""Numbers of seeds for which the smallest difference is shown."""
CANNOT_TELL = "cannot tell"
LEGEND = """\
deviation: standard deviation of errors in points, between the seeds of a network, and between
  networks without the seeds' part
right order: the chance that of two random networks, trained once each, the better one by this
  recipe has the lower error
lead: how many deviations the network with the lowest error is better than the mean network, by the
  yardstick, if the budget is spent with this recipe
best in: the share of bootstrap samples in which this lead is the largest
-: unknown, with fewer than five networks"""


@main.command()
@click.argument("study", type=PRESENT_FILE)
@click.option(
    "--for",
    "limit",
    default="5min",
    show_default=True,
    metavar="TIME",
    help="Begin no further training after this time, such as 5min or 1h.",
)
@json_option("plan")
def plan(*, study: Path, limit: str, as_json: bool) -> None:
    """Say how a study's budget is spent best.

    It trains a few networks of the study's space by several brief recipes, twice each, and once for
    longer. From this it says, with 95 % intervals, how many networks the budget trains, which
    differences a search can tell apart, and which rungs, resolution and share of new seeds to
    choose, as lines for the study file. Nothing is recorded. Press Ctrl-C at any time: it ends with
    what is known by then.
    """
    from nas.bench.plan import Planner
    from nas.searching.draft import parse_duration
    from nas.searching.study_file import read_study

    spec, limit_s = read_study(study), parse_duration(limit)
    if limit_s <= 0:
        raise InvalidValueError(f"--for needs a time above 0, not {limit!r}")
    planner, interrupted = Planner(spec, study.parent, limit_s), False
    console = terminal(stderr=as_json)
    clock = Progress(
        SpinnerColumn(),
        TimeElapsedColumn(),
        TextColumn(f"of {format_duration(limit_s)}"),
        console=console,
        transient=True,
        disable=not draws_over(console),
    )
    clock.add_task("")
    try:
        with clock:
            for line in planner.work():
                console.one_line(line)
    except KeyboardInterrupt:
        interrupted = True
    done = planner.result()
    if as_json:
        echo_json("plan", _facts(done, spec))
    else:
        _show(done, spec, limit)
    if interrupted:
        raise click.exceptions.Exit(INTERRUPTED)


def _show(done: "StudyPlan", spec: StudySpec, limit: str) -> None:
    """Print the plan: a table of the recipes, what it distinguishes, and lines to paste."""
    console = terminal()
    for note in done.notes:
        console.one_line(f"note: {note}")
    if all(each.seconds is None for each in done.recipes):
        limits = f"; {done.over_limits} networks are over a limit" if done.over_limits else ""
        console.print(f"no training was finished, so nothing is known{limits}: try a longer --for")
        return
    echo_wide(_table(done, spec))
    for line in _sentences(done, spec, limit):
        console.one_line(line)


def _table(done: "StudyPlan", spec: StudySpec) -> Table:
    """Return a row for each recipe."""
    low, high = (format_quantity(each, "1") for each in done.macs or (None, None))
    table = Table(
        "recipe",
        "seconds",
        "networks in the budget",
        "deviation of seeds",
        "of networks",
        "right order",
        "tau with the yardstick",
        "lead",
        "best in",
        title=f"{done.networks} networks of {spec.space}, {low} to {high} MACs; 95 % intervals",
    )
    for each in done.recipes:
        table.add_row(each.name, *_cells(each))
    return table


def _cells(recipe: "RecipePlan") -> list[str]:
    noise, outlook = recipe.noise, recipe.outlook
    return [
        "-" if recipe.seconds is None else f"{recipe.seconds:.1f}",
        "-" if recipe.networks is None else f"{recipe.networks:,}",
        _points(noise.seeds) if noise else "-",
        _points(noise.between) if noise else "-",
        _chance(noise.right_order) if noise else "-",
        *(_outlook_cells(outlook) if outlook else ["-"] * 3),
    ]


def _outlook_cells(outlook: "Outlook") -> list[str]:
    best = f"{outlook.best:.0%}"
    if outlook.is_vague:
        return [CANNOT_TELL, CANNOT_TELL, best]
    return [str(outlook.tau), str(outlook.lead), best]


def _points(interval: "Interval") -> str:
    """Return a difference of errors in points."""
    value, low, high = (100 * each for each in (interval.value, interval.low, interval.high))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _chance(interval: "Interval") -> str:
    """Return a chance from a half to one; an interval of more than half of that says nothing."""
    if interval.is_vague(0.5):
        return CANNOT_TELL
    return f"{interval.value:.0%} [{interval.low:.0%}, {interval.high:.0%}]"


def _sentences(done: "StudyPlan", spec: StudySpec, limit: str) -> list[str]:
    """Return what a search distinguishes, and the lines for the study file."""
    best, longer = done.best, f"a longer --for than {limit} tells more"
    lines = [LEGEND, ""]
    if best is None or best.outlook is None:
        return [*lines, f"cannot tell which rungs are best: {longer}"]
    if best.outlook.rivals:
        lines.append(
            f"{best.name} has the largest lead. It is not distinguishable from "
            f"{'; '.join(best.outlook.rivals)}: {longer}"
        )
    else:
        lines.append(f"{best.name} has the largest lead in 97.5 % of the samples or more")
    if best.noise is not None:
        differences = ", ".join(
            f"{seeds}: {_points(best.noise.smallest_difference(seeds))}" for seeds in COMPARED_SEEDS
        )
        lines.append(
            "smallest difference of two networks that their seeds alone seldom make (in 5 %), in "
            f"points, by the number of seeds of each: {differences}"
        )
    if done.fresh is None:
        lines.append(f"cannot tell the best share of new seeds: {longer}")
    lines += ["", "for the study file (a study with other rungs needs another name):", ""]
    lines.append(f"rungs: [{', '.join(_flow(_rung(each)) for each in best.rungs)}]")
    if done.fresh is not None:
        lines.append(f"budget: {_flow({**_given(spec), 'fresh': done.fresh.value})}")
    return lines


def _rung(rung: RungSpec) -> dict[str, Any]:
    return {name: value for name, value in asdict(rung).items() if value is not None}


def _given(spec: StudySpec) -> dict[str, Any]:
    return {name: value for name, value in asdict(spec.budget).items() if value is not None}


def _flow(values: Mapping[str, Any]) -> str:
    """Return a mapping as YAML in one line."""
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in values.items()) + "}"


def _scalar(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool) else f"{value:.15g}"


def _facts(done: "StudyPlan", spec: StudySpec) -> dict[str, Any]:
    """Return the plan as values of the schema `plan`."""
    return {
        "study": spec.name,
        "networks": done.networks,
        "over_limits": done.over_limits,
        "macs": done.macs,
        "measure_s": done.measure_s,
        "yardstick": [_rung(each) for each in done.yardstick],
        "recipes": [_row(each) for each in done.recipes],
        "best": done.best.name if done.best else None,
        "fresh": done.fresh,
        "notes": done.notes,
    }


def _row(recipe: "RecipePlan") -> dict[str, Any]:
    noise, outlook = recipe.noise, recipe.outlook
    return {
        "name": recipe.name,
        "rungs": [_rung(each) for each in recipe.rungs],
        "trained": recipe.trained,
        "failed": recipe.failed,
        "seconds": recipe.seconds,
        "networks": recipe.networks,
        "seed_deviation": noise.seeds if noise else None,
        "network_deviation": noise.between if noise else None,
        "right_order": noise.right_order if noise else None,
        "smallest_difference": {seeds: noise.smallest_difference(seeds) for seeds in COMPARED_SEEDS}
        if noise
        else None,
        "tau": outlook.tau if outlook else None,
        "lead": outlook.lead if outlook else None,
        "best_in": outlook.best if outlook else None,
        "rivals": outlook.rivals if outlook else None,
    }
