"""`nas bench truth`: long trainings of fixed networks."""

import time
from pathlib import Path

import click

from nas.cli.bench import bench
from nas.cli.options import PRESENT_FILE
from nas.core import plugins
from nas.searching.study_file import read_study


@bench.command()
@click.argument("study", type=PRESENT_FILE)
@click.option(
    "--networks",
    "count",
    type=click.IntRange(min=4),
    default=48,
    show_default=True,
    help="Networks to draw, if networks.jsonl is missing.",
)
@click.option(
    "--macs",
    type=(float, float),
    default=(4.0, 60.0),
    show_default=True,
    metavar="LOW HIGH",
    help="Their sizes in million MACs.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=2, show_default=True, help="Seeds of each."
)
@click.option(
    "--for",
    "limit_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="CPU seconds after which no further rung begins. [default: no limit]",
)
def truth(
    *, study: Path, count: int, macs: tuple[float, float], seeds: int, limit_s: float | None
) -> None:
    """Train fixed networks for long, to judge brief trainings by.

    The networks are drawn once and kept in networks.jsonl beside the study file, one half of them
    set aside. Each is trained by the study's rungs and judged by the validation and the test
    images. A line of truth.jsonl keeps every rung. Press Ctrl-C at any time: the same command
    continues at the last rung.
    """
    from nas.bench.brief import BriefTrainings, outcome
    from nas.bench.drawn_networks import draw_networks, read_networks, write_networks
    from nas.bench.truth import train_truth, truth_files

    spec = read_study(study)
    networks_file, truth_file, _, _ = truth_files(study)
    trainings = BriefTrainings(
        spec, truth_file, test=True, checkpoints=study.parent / "checkpoints"
    )
    if not networks_file.exists():
        low, high = macs
        networks = draw_networks(
            plugins.load("nas.spaces", spec.space),
            count,
            (low * 1e6, high * 1e6),
            spec.seed,
            image_size=trainings.image_size,
            classes=trainings.classes,
        )
        write_networks(networks_file, networks)
    networks = read_networks(networks_file)
    started_s = time.process_time()
    for line in train_truth(trainings, spec, networks, seeds):
        click.echo(
            f"{line['network']} seed {line['seed']}, {line['epochs']:g} epochs: {outcome(line)}"
        )
        if limit_s is not None and time.process_time() - started_s > limit_s:
            break
