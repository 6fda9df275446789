"""`nas bench stopping`: epochs that rules for stopping trials would have saved."""

from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from nas.analysis.rank_agreement import agreement
from nas.bench.stopping import STRATEGIES, Replay, ReplayTable, read_table, replay, table_text
from nas.cli.bench import bench
from nas.cli.files import OutputKind, check_outputs, write_file
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
PLOT = OutputKind(name="plot", command="nas bench stopping --plot", format="svg")


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
def stopping(
    *,
    study: str | None,
    database: str,
    path: Path | None,
    keep: Path | None,
    seeds: int,
    plot: Path | None,
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
    console = Console(highlight=False)
    rungs = ", ".join(f"{epochs:g}" for epochs in table.epochs)
    console.print(
        f"{len(table.curves)} networks, rungs at {rungs} epochs, "
        f"{len(table.front)} on the front; means ± deviations of {seeds} orders"
    )
    echo_wide(_rungs(table))
    echo_wide(_comparison(table, runs))
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
        cost_names=[objective.metric for objective in spec.measured_objectives],
        size_names=SIZE_METRICS,
    )


def _rungs(table: ReplayTable) -> Table:
    """Return a table of each rung's agreement with the last, and of the state of futility there."""
    shown = Table("epochs", "tau with the last", "of the best quarter", "futility", box=box.SIMPLE)
    for rung, epochs in enumerate(table.epochs[:-1], start=1):
        both = agreement(epochs, table.epochs[-1], table.curves.errors[:, [rung - 1, -1]])
        taus = ["-", "-"]
        if both is not None:
            taus = ["-" if tau is None else f"{tau:.2f}" for tau in (both.tau, both.top_tau)]
        shown.add_row(f"{epochs:g}", *taus, Futility(table.curves, rung).description)
    return shown


def _comparison(table: ReplayTable, runs: dict[str, list[Replay]]) -> Table:
    """Return a table of each rule's epochs, finished networks and hypervolumes."""
    all_epochs = table.epochs[-1] * len(table.curves)
    marks = [mark * all_epochs for mark in MARKS]
    shown = Table(
        "rule",
        "epochs spent",
        "finished",
        "of the front",
        *(f"at {mark:g} epochs" for mark in marks),
        f"epochs to {GOAL:g}",
        box=box.SIMPLE,
    )
    for name, replays in runs.items():
        to_goal = [run.epochs_to(GOAL) for run in replays]
        reached = [epochs for epochs in to_goal if epochs is not None]
        spent = _spread(reached, 1) if reached else "never"
        shown.add_row(
            name,
            _spread([run.epochs[-1] for run in replays], 1),
            _spread([len(run.finished) for run in replays], 1),
            _spread([len(table.front & set(run.finished)) for run in replays], 1),
            *(_spread([run.volume_at(mark) for run in replays], 3) for mark in marks),
            f"{spent} ({len(reached)} of {len(replays)})",
        )
    return shown


def _spread(values: list[float] | list[int], digits: int) -> str:
    """Return mean and standard deviation."""
    return f"{np.mean(values):.{digits}f} ±{np.std(values):.{digits}f}"
