"""The command `nas`: it parses, calls the library and prints; each error is one line.

A command's module is imported when the command is run, so that `nas --help` is fast.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# before torch is imported: spinning threads of two workers slow each other more than tenfold

import click

from nas.cli.group import MainGroup

COMMANDS = {
    "ablate": (
        "nas.cli.ablate",
        "Set connections of a DenseNet to zero, and test it.",
    ),
    "bench": ("nas.cli.bench", "Time the parts of osa-nas, and compare samplers and rules."),
    "compare": ("nas.cli.compare", "Compare two trials side by side."),
    "connections": (
        "nas.cli.connections",
        "Show how strongly the layers of a network are connected.",
    ),
    "db": ("nas.cli.db", "Check the record, or copy it to another database."),
    "doctor": ("nas.cli.doctor", "Show what this machine can measure, and why not the rest."),
    "export": ("nas.cli.export", "Write networks of a study as checked files."),
    "export-optuna": ("nas.cli.export_optuna", "Write a study to an Optuna database."),
    "front": ("nas.cli.front", "Show the Pareto front of a study."),
    "measure": ("nas.cli.measure", "Measure latency, energy and memory of networks."),
    "peers": ("nas.cli.peers", "Compare the VoVNet paper's networks on this device."),
    "remeasure": ("nas.cli.remeasure", "Measure the front of a study under other conditions."),
    "replicate": ("nas.cli.replicate", "Train networks of a study again with other seeds."),
    "report": ("nas.cli.report", "Write a study as one HTML page."),
    "retry": ("nas.cli.retry", "Let failed trials of a study be tried again."),
    "search": ("nas.cli.search", "Run a study: sample, measure and briefly train networks."),
    "serve": ("nas.cli.serve", "Show the record in a browser, live while a search runs."),
    "show": ("nas.cli.show", "Show one network: its drawing, counts and figures."),
    "status": ("nas.cli.status", "Show studies, their trials and what is being done now."),
    "study": ("nas.cli.study", "Rename studies of the record, or delete them."),
    "train": ("nas.cli.train", "Train networks of a study fully, and test them."),
    "verify": ("nas.cli.verify", "Check an exported folder on this machine."),
}
"""The module of each command, and the first sentence of its help."""


@click.group(
    cls=MainGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="osa-nas", prog_name="nas")
def main() -> None:
    """Find OSA (VoVNet) backbones that are fast, frugal and accurate on your device."""
