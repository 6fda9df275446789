"""`nas bench`: speed and quality of the parts of osa-nas on this machine."""

from nas.cli import main
from nas.cli.group import LazyGroup

COMMANDS = {
    "engine": ("nas.cli.bench.engine", "Measure the engine's time per trial."),
    "instrument": ("nas.cli.bench.instrument", "Measure the quality of measurements."),
    "proxy": ("nas.cli.bench.proxy", "Compare brief trainings by how they rank networks."),
    "search": ("nas.cli.bench.search", "Compare samplers on a table of trained networks."),
    "stopping": ("nas.cli.bench.stopping", "Replay stopping rules on the trainings of a study."),
    "store": ("nas.cli.bench.store", "Measure write throughput and read latency of the record."),
    "training": ("nas.cli.bench.training", "Measure images per second of the training loop."),
    "truth": ("nas.cli.bench.truth", "Train fixed networks for long, to judge brief trainings by."),
}
"""The module of each command, and the first sentence of its help."""


@main.group(cls=LazyGroup, table=COMMANDS)
def bench() -> None:
    """Time the parts of osa-nas, and compare samplers and rules."""
