"""`nas bench stopping`: epochs that rules for stopping trials would have saved."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nas.analysis.rank_agreement import agreement
from nas.bench.stopping import STRATEGIES, Replay, ReplayTable, read_table, replay, table_text
from nas.cli.bench import bench
from nas.cli.files import OutputKind, check_outputs, write_file
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import FILE, PRESENT_FILE, database_option, open_record, pick_study
from nas.cli.tables import echo_wide
from nas.core.errors import NasError
from nas.core.stopping import SIZE_METRICS, Curves, Futility

if TYPE_CHECKING:
    from nas.record import Store


MIN_NETWORKS = 8
"""Smallest number of networks for a replay."""
MARKS = (0.25, 0.5, 0.75, 1.0)
"""Shares of all epochs after which hypervolumes are shown."""
GOAL = 0.95
"""Hypervolume for which the needed epochs are shown."""
CURVES = OutputKind(
    name="table",
    command="nas bench stopping --keep",
    format="csv",
    header="trial,(choice:.*,)?accuracy:0,error:.*",
)
PLOT = OutputKind(
    name="plot", command="nas bench stopping --plot", format="svg", packages=("matplotlib",)
)


@bench.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "--table",
    "path",
    type=PRESENT_FILE,
    help="Curves that --keep wrote, instead of a study of the record.",
)
@click.option(
    "--keep",
    type=FILE,
    help="Write the study's curves as CSV.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Orders of the trials.",
)
@click.option(
    "--plot",
    type=FILE,
    help="Draw hypervolume by epochs as SVG.",
)
@json_option("bench stopping")
def stopping(
    *,
    study: str | None,
    database: str,
    path: Path | None,
    keep: Path | None,
    seeds: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Replay stopping rules on the trainings of a study.

    It uses the networks that reached the last rung, and compares epochs and hypervolume. The study
    itself should not have stopped any trial. The hypervolume is a share of that of all
    networks.
    """
    check_outputs([(keep, CURVES), (plot, PLOT)])
    table = read_table(path) if path else _from_record(database, study)
    if len(table.curves) < MIN_NETWORKS:
        raise NasError(
            f"{len(table.curves)} networks reached the last rung; a replay needs {MIN_NETWORKS}"
        )
    if keep:
        write_file(keep, table_text(table), CURVES)
    runs = {
        name: [replay(table, strategy, seed) for seed in range(seeds)]
        for name, strategy in STRATEGIES.items()
    }
    rungs, rules = _rung_values(table), _rule_values(table, runs)
    if as_json:
        facts = {"networks": len(table.curves), "epochs": table.epochs, "front": len(table.front)}
        echo_json("bench stopping", {**facts, "orders": seeds, "rungs": rungs, "rules": rules})
    else:
        console = Console(highlight=False)
        epochs = ", ".join(f"{each:g}" for each in table.epochs)
        console.print(
            f"{len(table.curves)} networks, rungs at {epochs} epochs, "
            f"{len(table.front)} on the front; means ± deviations of {seeds} orders"
        )
        echo_wide(_rungs(rungs))
        echo_wide(_comparison(rules))
    if plot:
        write_file(plot, _drawing(table, runs), PLOT)


def _drawing(table: ReplayTable, runs: dict[str, list[Replay]]) -> str:
    """Return the curves of hypervolume by epochs as SVG."""
    from nas.bench.curves import curves_svg

    all_epochs = int(table.epochs[-1] * len(table.curves))
    steps = [float(step) for step in range(1, all_epochs + 1)]
    curves = {}
    for name, replays in runs.items():
        curves[name] = np.array([[run.volume_at(step) for step in steps] for run in replays])
    return curves_svg(
        curves,
        title="what stopping saves",
        across="epochs",
        up="share of all networks' hypervolume",
    )


def _from_record(database: str, study: str | None) -> ReplayTable:
    with open_record(database) as store:
        return table_of(store, pick_study(store, study).name)


def table_of(store: "Store", study: str) -> ReplayTable:
    """Return the networks of a study that reached the last rung."""
    spec, trials = store.study(study).spec, store.trials(study)
    curves = Curves.of(trials, spec)
    complete = [trial for trial in trials if trial.number in curves.numbers]
    epochs = tuple(rung.epochs for rung in complete[0].evaluation.rungs) if complete else ()
    params = {trial.number: trial.params for trial in trials}
    return ReplayTable(
        epochs=epochs,
        curves=curves,
        params=[params[number] for number in curves.numbers.tolist()],
        cost_names=[objective.key for objective in spec.measured_objectives],
        size_names=SIZE_METRICS,
    )


def _rung_values(table: ReplayTable) -> list[dict[str, Any]]:
    """Return each rung's agreement with the last, and the state of futility there."""
    rows = []
    for rung, epochs in enumerate(table.epochs[:-1], start=1):
        both = agreement(epochs, table.epochs[-1], table.curves.errors[:, [rung - 1, -1]])
        rows.append(
            {
                "epochs": epochs,
                "tau": None if both is None else both.tau,
                "top_tau": None if both is None else both.top_tau,
                "futility": Futility(table.curves, rung).description,
            }
        )
    return rows


def _rungs(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return these values as a table."""
    shown = Table("epochs", "tau with the last", "of the best quarter", "futility")
    for row in rows:
        taus = ["-" if tau is None else f"{tau:.2f}" for tau in (row["tau"], row["top_tau"])]
        shown.add_row(f"{row['epochs']:g}", *taus, row["futility"])
    return shown


def _rule_values(table: ReplayTable, runs: dict[str, list[Replay]]) -> list[dict[str, Any]]:
    """Return each rule's epochs, finished networks and hypervolumes, one value for each order."""
    marks = [mark * table.epochs[-1] * len(table.curves) for mark in MARKS]
    return [
        {
            "rule": name,
            "epochs": [run.epochs[-1] for run in replays],
            "finished": [len(run.finished) for run in replays],
            "front": [len(table.front & set(run.finished)) for run in replays],
            "hypervolumes": [
                {"epochs": mark, "values": [run.volume_at(mark) for run in replays]}
                for mark in marks
            ],
            "epochs_to_goal": [run.epochs_to(GOAL) for run in replays],
        }
        for name, replays in runs.items()
    ]


def _comparison(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return these values as a table of means and deviations."""
    shown = Table(
        "rule",
        "epochs spent",
        "finished",
        "of the front",
        *(f"at {volume['epochs']:g} epochs" for volume in rows[0]["hypervolumes"]),
        f"epochs to {GOAL:g}",
    )
    for row in rows:
        reached = [epochs for epochs in row["epochs_to_goal"] if epochs is not None]
        spent = _spread(reached, 1) if reached else "never"
        shown.add_row(
            row["rule"],
            *(_spread(row[name], 1) for name in ("epochs", "finished", "front")),
            *(_spread(volume["values"], 3) for volume in row["hypervolumes"]),
            f"{spent} ({len(reached)} of {len(row['epochs_to_goal'])})",
        )
    return shown


def _spread(values: list[float] | list[int], digits: int) -> str:
    """Return mean and standard deviation."""
    return f"{np.mean(values):.{digits}f} ±{np.std(values):.{digits}f}"
