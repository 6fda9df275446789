"""`nas bench proxy`: how well brief trainings rank networks, and at what price."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from nas.cli.bench import bench
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import PRESENT_FILE
from nas.cli.tables import print_table
from nas.core.errors import UnknownNameError
from nas.searching.study_file import read_brief_recipes, read_study

if TYPE_CHECKING:
    from nas.bench.proxy import ProxyResult, Truth


@bench.command()
@click.argument("study", type=PRESENT_FILE)
@click.option(
    "--only", multiple=True, metavar="NAME", help="Take this recipe. Repeat it for several."
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=2, show_default=True, help="Seeds of each."
)
@click.option("--set-aside", is_flag=True, help="Take the networks that are set aside.")
@click.option(
    "--for",
    "limit_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="CPU seconds after which no further training begins; 0 trains nothing. "
    "[default: no limit]",
)
@json_option("bench proxy")
def proxy(
    *,
    study: Path,
    only: tuple[str, ...],
    seeds: int,
    set_aside: bool,
    limit_s: float | None,
    as_json: bool,
) -> None:
    """Compare brief trainings by how they rank networks.

    Each recipe of proxies.yaml beside the study file trains the networks of `nas bench truth`. The
    table shows CPU seconds, Kendall's tau with the long trainings, the correlation at equal MACs,
    and the agreement of two seeds, with 95 % bootstrap intervals. A line of proxies.jsonl keeps
    every training. Press Ctrl-C at any time: the same command continues.
    """
    from nas.bench.brief import BriefTrainings, outcome
    from nas.bench.drawn_networks import read_networks
    from nas.bench.json_lines import read_lines
    from nas.bench.proxy import proxy_results, train_proxies, truth_of
    from nas.bench.truth import truth_files

    spec = read_study(study)
    networks_file, truth_file, recipes_file, proxies_file = truth_files(study)
    recipes = read_brief_recipes(recipes_file, spec.training)
    for name in only:
        if name not in recipes:
            raise UnknownNameError(str(recipes_file), name, list(recipes))
    recipes = {name: recipe for name, recipe in recipes.items() if name in (only or recipes)}
    networks = [each for each in read_networks(networks_file) if each.set_aside is set_aside]
    if limit_s != 0:
        trainings = BriefTrainings(spec, proxies_file, test=False)
        started_s = time.process_time()
        for line in train_proxies(trainings, recipes, networks, seeds):
            done = f"{line['network']} seed {line['seed']}, {line['recipe']}: {outcome(line)}"
            click.echo(done, err=as_json)
            if limit_s is not None and time.process_time() - started_s > limit_s:
                break
    truth = truth_of(read_lines(truth_file), networks)
    results = proxy_results(read_lines(proxies_file), recipes, networks, truth)
    if as_json:
        facts = {"epochs": truth.epochs, "networks": len(truth.errors)}
        echo_json("bench proxy", {**facts, "recipes": results})
        return
    print_table(table_of(results, truth, next(iter(recipes))))


def table_of(results: Sequence["ProxyResult"], truth: "Truth", first: str) -> Table:
    """Return a row for each recipe. The others are compared with the `first` one."""
    table = Table(
        "recipe",
        "networks",
        "seeds",
        "failed",
        "CPU s",
        "reference trainings",
        "tau",
        "correlation at equal MACs",
        f"above {first}",
        "tau of two seeds",
        "deviation of seeds",
        title=f"brief trainings compared with {truth.epochs:g} epochs of {len(truth.errors)} "
        "networks; 95 % bootstrap intervals",
    )
    for each in results:
        table.add_row(
            each.name,
            str(each.networks),
            str(each.seeds),
            str(each.failed),
            f"{each.seconds:.1f}",
            f"{each.relative:.2f}",
            str(each.tau or "-"),
            str(each.correlation or "-"),
            "-" if each.better is None else f"{100 * each.better:.1f} %",
            str(each.seed_tau or "-"),
            "-" if each.seed_deviation is None else f"{100 * each.seed_deviation:.2f} %",
        )
    return table
