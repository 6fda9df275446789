"""`nas bench search`: comparison of samplers on tables of trained networks, or on a synthetic
error.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Column, Table

from nas.cli.bench import bench
from nas.cli.files import OutputKind, check_outputs, write_file
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import FILE, PRESENT_FILE
from nas.cli.tables import print_table
from nas.core import plugins
from nas.core.errors import InvalidValueError
from nas.core.measurement import MeasurementPlan

if TYPE_CHECKING:
    from nas.bench.samplers import BenchmarkProblem, Run

Runs = dict[str, dict[int, "Run"]]
"""Runs by sampler and seed."""
SAMPLERS = "known-cost,mutate_front,random,tpe,tpe-multivariate,nsga2,nsga2-p50,gp:2"
"""Samplers that are compared by default."""
MARKS = (25, 50, 100, 200)
"""Evaluations after which hypervolumes are shown."""
PLOT = OutputKind(
    name="plot", command="nas bench search --plot", format="svg", packages=("matplotlib",)
)
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
    type=PRESENT_FILE,
    help="A table of trained networks.",
)
@click.option(
    "--table-format",
    "form",
    type=click.Choice(["nas-bench-macro", "channel-bench", "csv"]),
    default="csv",
    show_default=True,
    help="Format of the table.",
)
@click.option("--costs", default="", metavar="NAMES", help="Use only these of the table's costs.")
@click.option(
    "--floor",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Accuracy that a network of the true front must have. [default: the format's, csv 0]",
)
@click.option(
    "--made-up",
    "space",
    metavar="SPACE",
    help="Instead of a table: an OSA space with counted costs and a synthetic error.",
)
@click.option(
    "--measure",
    type=FILE,
    help="Instead of the table's costs: latency measured on this machine, stored in this CSV file. "
    "For channel-bench's ResNets, which are built with random weights.",
)
@click.option(
    "--samplers",
    default=SAMPLERS,
    show_default=True,
    metavar="NAMES",
    help="The first is compared with the others. NAME:N is run with N seeds: gp takes a second "
    "per proposal.",
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
    help="The other seeds follow this one.",
)
@click.option(
    "--budget",
    type=click.IntRange(min=10),
    default=200,
    show_default=True,
    help="Evaluations of each run.",
)
@click.option(
    "--noisy",
    is_flag=True,
    help="Show the search the accuracy of one training seed, but compute the hypervolume from the "
    "mean.",
)
@click.option(
    "--hide-reference",
    is_flag=True,
    help="Hide the reference point from samplers, as in studies without one.",
)
@click.option(
    "--hide-costs",
    "hidden",
    default="",
    metavar="NAMES",
    help="Show samplers these costs of a network only after it was proposed, like measured costs.",
)
@click.option(
    "--results",
    "results_path",
    type=FILE,
    help="Store each run in this CSV file (.csv.gz: compressed), and reuse the runs stored there.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at once."
)
@click.option(
    "--plot",
    type=FILE,
    help="Draw the curves with bands as SVG.",
)
@json_option("bench search")
def search(
    *,
    path: Path | None,
    form: str,
    costs: str,
    floor: float | None,
    space: str | None,
    measure: Path | None,
    samplers: str,
    seeds: int,
    first_seed: int,
    budget: int,
    noisy: bool,
    hide_reference: bool,
    hidden: str,
    results_path: Path | None,
    workers: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare samplers on a table of trained networks.

    It shows the hypervolume as a share of the true front's: mean and deviation over seeds.
    """
    from nas.bench import samplers as comparison

    benchmark = _benchmark(path, form, _split(costs), floor, space)
    seeds_of = _seeds_of(samplers, range(first_seed, first_seed + seeds))
    for name in seeds_of:
        comparison.sampler_named(name)
    check_outputs([(measure, LATENCIES), (results_path, RESULTS), (plot, PLOT)])
    if measure is not None:
        benchmark = _with_measured_latency(benchmark, measure, workers)
    hidden_costs = _hidden_costs(benchmark, _split(hidden))
    settings = [
        *([costs] if costs else []),
        *(["noisy"] if noisy else []),
        *(["no reference"] if hide_reference else []),
        *([f"hidden {','.join(hidden_costs)}"] if hidden_costs else []),
    ]
    shown_floor = [] if floor is None else [f"floor {floor:g}"]
    title = " ".join([benchmark.name, *shown_floor, *settings])
    runs = _run(
        partial(
            comparison.run,
            benchmark,
            budget=budget,
            noisy=noisy,
            with_reference=not hide_reference,
            hidden=hidden_costs,
        ),
        key=" ".join([benchmark.key, *settings]),
        seeds_of=seeds_of,
        budget=budget,
        results_path=results_path,
        workers=workers,
    )
    values = _sampler_values(runs, budget)
    lead = _lead_values(runs) if len(runs) > 1 else []
    if as_json:
        facts = {"problem": title, "evaluations": budget, "first_seed": first_seed}
        echo_json("bench search", {**facts, "samplers": values, "lead": lead})
    else:
        console = Console(highlight=False)
        console.print(f"{title}, {budget} evaluations, seeds from {first_seed}")
        print_table(_hypervolumes(values))
        if lead:
            print_table(_lead(next(iter(runs)), lead))
    if plot:
        from nas.bench.curves import curves_svg

        curves = {
            name: np.array([run.volumes for run in each.values()]) for name, each in runs.items()
        }
        drawing = curves_svg(
            curves, title=title, across="evaluations", up="share of the front's hypervolume"
        )
        write_file(plot, drawing, PLOT)


def _split(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _hidden_costs(benchmark: "BenchmarkProblem", names: Sequence[str]) -> Sequence[str]:
    """Return these names, sorted. Raises `InvalidValueError` if one of them is no cost."""
    objectives = benchmark.problem(with_reference=False).objectives
    costs = [objective.metric for objective in objectives[1:]]
    if unknown := sorted(set(names) - set(costs)):
        raise InvalidValueError(
            f"--hide-costs: {benchmark.name} has no cost {', '.join(unknown)}; "
            f"there are: {', '.join(costs)}"
        )
    return sorted(set(names))


def _seeds_of(samplers: str, seeds: Sequence[int]) -> dict[str, Sequence[int]]:
    """Return the seeds of each sampler. Raises `InvalidValueError` if there is no sampler, or one
    is named twice or has no seeds.
    """
    seeds_of: dict[str, Sequence[int]] = {}
    for each in _split(samplers):
        name, _, number = each.rpartition(":")
        if name and number.isdecimal():
            own_seeds = seeds[: int(number)]
        else:
            name, own_seeds = each, seeds
        if not own_seeds:
            raise InvalidValueError(
                f"--samplers {samplers}: {each} has no seeds; NAME:N takes an N of at least 1"
            )
        if name in seeds_of:
            raise InvalidValueError(
                f"--samplers {samplers}: {name} stands there twice; name it once"
            )
        seeds_of[name] = own_seeds
    if not seeds_of:
        raise InvalidValueError(f"--samplers names none; the default is {SAMPLERS}")
    return seeds_of


def _benchmark(
    path: Path | None, form: str, costs: Sequence[str], floor: float | None, space: str | None
) -> "BenchmarkProblem":
    if path is not None and space is None:
        from nas.bench.tables import read_table

        return read_table(path, form, floor=floor, costs=costs)
    if path is not None or not space:
        raise InvalidValueError("name either a --table or a space with --made-up")
    if costs or floor is not None:
        raise InvalidValueError("--costs and --floor are of a --table; --made-up has its own")
    from nas.bench.synthetic import SyntheticError

    return SyntheticError(space=plugins.load("nas.spaces", space), name=f"made-up {space}")


def _with_measured_latency(
    benchmark: "BenchmarkProblem", path: Path, workers: int
) -> "BenchmarkProblem":
    """Return the problem with latencies of this machine as costs, stored at `path`."""
    from nas.bench.measured_widths import MeasuredWidths
    from nas.bench.tables import Table as TrainedTable
    from nas.measuring.meters import find_meter

    if not isinstance(benchmark, TrainedTable) or workers > 1:
        raise InvalidValueError(
            "--measure needs a --table of channel-bench, and one worker, so that it is alone"
        )
    return MeasuredWidths(table=benchmark, meter=find_meter(), plan=MeasurementPlan(), path=path)


def _run(
    job: Callable[..., "Run"],
    *,
    key: str,
    seeds_of: Mapping[str, Sequence[int]],
    budget: int,
    results_path: Path | None,
    workers: int,
) -> Runs:
    """Run and store what the file lacks, and return all runs in the order of `seeds_of`.

    `job` is called with a sampler's name and a `seed`.
    """
    from nas.bench.sampler_results import ComparisonFile

    file = ComparisonFile(path=results_path) if results_path else None
    runs: Runs = file.runs(key, budget) if file else {}
    missing = [
        (name, seed)
        for name, seeds in seeds_of.items()
        for seed in seeds
        if seed not in runs.get(name, {})
    ]
    jobs = [partial(job, name, seed=seed) for name, seed in missing]
    for index, run in _results(jobs, workers):
        name, seed = missing[index]
        runs.setdefault(name, {})[seed] = run
        if file:
            file.append(key, name, seed, run)
    return {name: {seed: runs[name][seed] for seed in seeds} for name, seeds in seeds_of.items()}


def _results(jobs: Sequence[Callable[[], "Run"]], workers: int) -> Iterator[tuple[int, "Run"]]:
    """Yield the position and result of each job, in the order in which they finish."""
    if workers == 1:
        yield from ((index, job()) for index, job in enumerate(jobs))
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        positions = {pool.submit(job): index for index, job in enumerate(jobs)}
        try:
            for future in as_completed(positions):
                yield positions[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _sampler_values(runs: Runs, budget: int) -> list[dict[str, Any]]:
    """Return each sampler's hypervolume after some numbers of evaluations."""
    marks = [mark for mark in MARKS if mark <= budget] or [budget]
    rows = []
    for name, each in runs.items():
        volumes = {mark: [run.volumes[mark - 1] for run in each.values()] for mark in marks}
        rows.append(
            {
                "sampler": name,
                "seeds": len(each),
                "hypervolumes": [
                    {
                        "evaluations": mark,
                        "mean": statistics.mean(values),
                        "deviation": statistics.pstdev(values),
                    }
                    for mark, values in volumes.items()
                ],
                "distinct": statistics.mean(run.distinct for run in each.values()),
                "seconds_per_proposal": statistics.mean(
                    run.seconds.mean() for run in each.values()
                ),
            }
        )
    return rows


def _hypervolumes(samplers: Sequence[Mapping[str, Any]]) -> Table:
    """Return these values as a table."""
    marks = [volume["evaluations"] for volume in samplers[0]["hypervolumes"]]
    numbers = ("seeds", *(f"at {mark}" for mark in marks), "distinct", "CPU s/proposal")
    table = Table("sampler", *(Column(heading, justify="right") for heading in numbers))
    for row in samplers:
        table.add_row(
            row["sampler"],
            str(row["seeds"]),
            *(f"{v['mean']:.3f} ± {v['deviation']:.3f}" for v in row["hypervolumes"]),
            f"{row['distinct']:.0f}",
            f"{row['seconds_per_proposal']:.4f}",
        )
    return table


def _lead_values(runs: Runs) -> list[dict[str, Any]]:
    """Return the evaluations that the first sampler needs for the others' final values, and those
    after which it is behind them.
    """
    from nas.bench import samplers as comparison

    first, rows = next(iter(runs)), []
    for name, p_value in comparison.p_values(runs, first).items():
        row: dict[str, Any] = {"sampler": name, "p_value": p_value}
        for charged, suffix in ((True, ""), (False, "_without_repeats")):
            ours, theirs = (
                comparison.mean_curve(list(runs[each].values()), charged=charged)
                for each in (first, name)
            )
            row[f"needed{suffix}"] = comparison.evaluations_to(ours, float(theirs[-1]))
            row[f"of{suffix}"] = len(theirs)
        ours, theirs = (comparison.mean_curve(list(runs[each].values())) for each in (first, name))
        rows.append({**row, "behind": comparison.behind(ours, theirs)})
    return rows


def _lead(first: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return these values as a table."""
    needed = (f"{first} needs", "of", "repeats not charged", "of")
    numbers = (*needed, "p (Wilcoxon, Holm)", "behind at")
    table = Table("final value of", *(Column(heading, justify="right") for heading in numbers))
    for row in rows:
        cells = []
        for suffix in ("", "_without_repeats"):
            count = row[f"needed{suffix}"]
            cells += ["more" if count is None else str(count), str(row[f"of{suffix}"])]
        p_value = row["p_value"]
        shown_p = "too few pairs" if p_value is None else f"{p_value:.4f}"
        table.add_row(row["sampler"], *cells, shown_p, row["behind"])
    return table
