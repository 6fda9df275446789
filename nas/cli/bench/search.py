"""`nas bench search`: samplers against each other on tables of trained networks, or on a made-up
error.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from nas.cli.bench import bench
from nas.cli.files import OutputKind, check_outputs, write_file
from nas.core import plugins
from nas.core.errors import InvalidValueError
from nas.core.measurement import MeasurementPlan

if TYPE_CHECKING:
    from nas.bench.samplers import Landscape, Run

Runs = dict[str, dict[int, "Run"]]
"""By sampler and seed."""
SAMPLERS = "known-cost,mutate_front,random,tpe,tpe-multivariate,nsga2,nsga2-p50,gp:2"
MARKS = (25, 50, 100, 200)
PLOT = OutputKind(name="plot", command="nas bench search --plot", format="svg")
RESULTS = OutputKind(
    name="table",
    command="nas bench search --results",
    format="csv",
    header="contest,sampler,seed,evaluation,network,hypervolume,seconds",
)
LATENCIES = OutputKind(
    name="table",
    command="nas bench search --measure",
    format="csv",
    header="device,network,latency_s",
)


@bench.command("search")
@click.option(
    "--table",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A table of trained networks.",
)
@click.option(
    "--table-format",
    "form",
    type=click.Choice(["nas-bench-macro", "channel-bench", "csv"]),
    default="csv",
    show_default=True,
    help="How it is written.",
)
@click.option("--costs", default="", metavar="NAMES", help="Only these of the table's costs.")
@click.option(
    "--floor",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Accuracy that a network of the true front must have. [default: the format's, csv 0]",
)
@click.option(
    "--made-up",
    metavar="SPACE",
    help="Instead of a table: an OSA space with counted costs and a made-up error.",
)
@click.option(
    "--measure",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Instead of the table's costs: latency measured here, kept in this CSV file. Of channel-bench's "
    "ResNets, which are built with random weights.",
)
@click.option(
    "--samplers",
    default=SAMPLERS,
    show_default=True,
    metavar="NAMES",
    help="The first is compared with the others. NAME:N is run with N seeds: gp takes a second per proposal.",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Runs of each sampler.",
)
@click.option(
    "--first-seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="The others follow it.",
)
@click.option(
    "--budget",
    type=click.IntRange(min=10),
    default=200,
    show_default=True,
    help="Evaluations of each run.",
)
@click.option(
    "--noisy", is_flag=True, help="Show the search one training seed's accuracy; score by the mean."
)
@click.option(
    "--hide-reference",
    is_flag=True,
    help="Do not tell samplers the reference point, as studies without do.",
)
@click.option(
    "--hide-costs",
    "hidden",
    default="",
    metavar="NAMES",
    help="Tell samplers these costs of a network once it is proposed, as if they were measured.",
)
@click.option(
    "--results",
    "kept",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep each run in this CSV file (.csv.gz: packed), and take from it those that it has.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the curves with bands as SVG.",
)
def search(
    *,
    path: Path | None,
    form: str,
    costs: str,
    floor: float | None,
    made_up: str | None,
    measure: Path | None,
    samplers: str,
    seeds: int,
    first_seed: int,
    budget: int,
    noisy: bool,
    hide_reference: bool,
    hidden: str,
    kept: Path | None,
    workers: int,
    plot: Path | None,
) -> None:
    """Samplers on a table: hypervolume as a share of the true front's, mean and deviation over
    seeds.
    """
    from nas.bench import samplers as contest

    landscape = _landscape(path, form, _split(costs), floor, made_up)
    wanted = _wanted(samplers, range(first_seed, first_seed + seeds))
    for name in wanted:
        contest.sampler_named(name)
    check_outputs([(measure, LATENCIES), (kept, RESULTS), (plot, PLOT)])
    if measure is not None:
        landscape = _measured(landscape, measure, workers)
    unseen = _hidden(landscape, _split(hidden))
    how = [
        *[costs] * bool(costs),
        *["noisy"] * noisy,
        *["no reference"] * hide_reference,
        *[f"hidden {','.join(unseen)}"] * bool(unseen),
    ]
    name = " ".join([landscape.name, *([] if floor is None else [f"floor {floor:g}"]), *how])
    runs = _run(
        landscape,
        " ".join([landscape.key, *how]),
        wanted,
        kept,
        workers,
        budget=budget,
        noisy=noisy,
        tell_reference=not hide_reference,
        hidden=unseen,
    )
    console = Console(highlight=False)
    console.print(f"{name}, {budget} evaluations, seeds from {first_seed}")
    console.print(_curves(runs, budget))
    if len(runs) > 1:
        console.print(_lead(runs))
    if plot:
        from nas.bench.curves import curves_svg

        curves = {
            name: np.array([run.volumes for run in each.values()]) for name, each in runs.items()
        }
        write_file(
            plot,
            curves_svg(
                curves, title=name, across="evaluations", up="share of the front's hypervolume"
            ),
            PLOT,
        )


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _hidden(landscape: "Landscape", names: Sequence[str]) -> Sequence[str]:
    """These names, sorted. Raises `InvalidValueError` for one that is no cost."""
    costs = [
        objective.metric for objective in landscape.problem(tell_reference=False).objectives[1:]
    ]
    if unknown := sorted(set(names) - set(costs)):
        message = f"--hide-costs: {landscape.name} has no cost {', '.join(unknown)}; there are: {', '.join(costs)}"
        raise InvalidValueError(message)
    return sorted(set(names))


def _wanted(samplers: str, seeds: Sequence[int]) -> dict[str, Sequence[int]]:
    """The seeds of each sampler, of which there is at least one."""
    found: dict[str, Sequence[int]] = {}
    for each in _split(samplers):
        name, _, number = each.rpartition(":")
        few = bool(name) and number.isdecimal()
        name, own = (name, seeds[: int(number)]) if few else (each, seeds)
        if not own:
            message = f"--samplers {samplers}: {each} has no seeds; NAME:N takes an N of at least 1"
            raise InvalidValueError(message)
        if name in found:
            message = f"--samplers {samplers}: {name} stands there twice; name it once"
            raise InvalidValueError(message)
        found[name] = own
    if not found:
        message = f"--samplers names none; the default is {SAMPLERS}"
        raise InvalidValueError(message)
    return found


def _landscape(
    path: Path | None, form: str, costs: Sequence[str], floor: float | None, made_up: str | None
) -> "Landscape":
    if (path is None) == (made_up is None):
        message = "name either a --table or a space with --made-up"
        raise InvalidValueError(message)
    if made_up:
        if costs or floor is not None:
            message = "--costs and --floor are of a --table; --made-up has its own"
            raise InvalidValueError(message)
        from nas.bench.synthetic import MadeUp

        return MadeUp(space=plugins.load("nas.spaces", made_up), name=f"made-up {made_up}")
    from nas.bench.tables import read_table

    assert path is not None  # noqa: S101 - for mypy
    return read_table(path, form, floor=floor, costs=costs)


def _measured(landscape: "Landscape", kept: Path, workers: int) -> "Landscape":
    """With our own latencies for costs."""
    from nas.bench.measured_widths import MeasuredWidths
    from nas.bench.tables import Table as Trained
    from nas.measuring.meters import find_meter

    if not isinstance(landscape, Trained) or workers > 1:
        message = "--measure needs a --table of channel-bench, and one worker, so that it is alone"
        raise InvalidValueError(message)
    return MeasuredWidths(table=landscape, meter=find_meter(), plan=MeasurementPlan(), kept=kept)


def _run(
    landscape: "Landscape",
    contest_name: str,
    wanted: Mapping[str, Sequence[int]],
    kept: Path | None,
    workers: int,
    *,
    budget: int,
    noisy: bool,
    tell_reference: bool,
    hidden: Sequence[str],
) -> Runs:
    """What the file lacks is run and kept; all runs in the order wanted."""
    from nas.bench import samplers as contest
    from nas.bench.sampler_results import ContestFile

    file = ContestFile(path=kept) if kept else None
    runs: Runs = file.runs(contest_name, budget) if file else {}
    missing = [
        (name, seed)
        for name, seeds in wanted.items()
        for seed in seeds
        if seed not in runs.get(name, {})
    ]
    job = partial(
        contest.run,
        landscape,
        budget=budget,
        noisy=noisy,
        tell_reference=tell_reference,
        hidden=hidden,
    )
    jobs = [partial(job, name, seed=seed) for name, seed in missing]
    for index, run in _done(jobs, workers):
        name, seed = missing[index]
        runs.setdefault(name, {})[seed] = run
        if file:
            file.append(contest_name, name, seed, run)
    return {name: {seed: runs[name][seed] for seed in seeds} for name, seeds in wanted.items()}


def _done(jobs: Sequence[Callable[[], "Run"]], workers: int) -> Iterator[tuple[int, "Run"]]:
    """The jobs' results with their places, as they come."""
    if workers == 1:
        yield from ((index, job()) for index, job in enumerate(jobs))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        asked = {pool.submit(job): index for index, job in enumerate(jobs)}
        for done in as_completed(asked):
            yield asked[done], done.result()


def _curves(runs: Runs, budget: int) -> Table:
    """How good each sampler is when."""
    marks = [mark for mark in MARKS if mark <= budget] or [budget]
    table = Table(box=box.SIMPLE)
    for heading in (
        "sampler",
        "seeds",
        *(f"at {mark}" for mark in marks),
        "distinct",
        "CPU s/proposal",
    ):
        table.add_column(heading, justify="left" if heading == "sampler" else "right")
    for name, each in runs.items():
        volumes = [[run.volumes[mark - 1] for run in each.values()] for mark in marks]
        table.add_row(
            name,
            str(len(each)),
            *(f"{statistics.mean(v):.3f} ± {statistics.pstdev(v):.3f}" for v in volumes),
            f"{statistics.mean(run.distinct for run in each.values()):.0f}",
            f"{statistics.mean(run.seconds.mean() for run in each.values()):.4f}",
        )
    return table


def _lead(runs: Runs) -> Table:
    """How soon the first sampler reaches the others' final values, and where it is behind them."""
    from nas.bench import samplers as contest

    first = next(iter(runs))
    table = Table(box=box.SIMPLE)
    for heading in (
        "final value of",
        f"{first} needs",
        "of",
        "repeats not charged",
        "of",
        "p (Wilcoxon, Holm)",
        "behind at",
    ):
        table.add_column(heading, justify="left" if heading == "final value of" else "right")
    for name, p_value in contest.p_values(runs, first).items():
        cells = []
        for charged in (True, False):
            ours, theirs = (
                contest.mean_curve(list(runs[each].values()), charged=charged)
                for each in (first, name)
            )
            needed = contest.evaluations_to(ours, float(theirs[-1]))
            cells += ["more" if needed is None else str(needed), str(len(theirs))]
        behind = contest.behind(
            *(contest.mean_curve(list(runs[each].values())) for each in (first, name))
        )
        table.add_row(
            name, *cells, "too few pairs" if p_value is None else f"{p_value:.4f}", behind
        )
    return table
