"""The command `nas`: it parses, calls the library and prints; each error is one line.

A command's module is imported when the command is run, so that `nas --help` is fast.
"""

import os
import signal
from contextlib import suppress


def _handle_interrupts(before: object, after: object) -> None:
    """Exchange the handler of Ctrl-C if it is `before`. Only the main thread can."""
    if signal.getsignal(signal.SIGINT) is before:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, after)  # type: ignore[arg-type]


# Ctrl-C during these imports ends the process without a traceback.
_handle_interrupts(signal.default_int_handler, signal.SIG_DFL)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# before torch is imported: spinning threads of two workers slow each other more than tenfold

import click  # noqa: E402

from nas.cli.group import MainGroup  # noqa: E402

_handle_interrupts(signal.SIG_DFL, signal.default_int_handler)

SECTIONS = {
    "Search": {
        "new": ("nas.cli.new", "Write a study that works on this machine."),
        "check": ("nas.cli.check", "Check a study before it is searched."),
        "plan": ("nas.cli.plan", "Say how a study's budget is spent best."),
        "search": ("nas.cli.search", "Run a study: sample, measure and briefly train networks."),
        "replicate": ("nas.cli.replicate", "Train networks of a study again with other seeds."),
        "train": ("nas.cli.train", "Train networks of a study fully, and test them."),
    },
    "Look": {
        "status": ("nas.cli.status", "Show studies, their trials and what is being done now."),
        "front": ("nas.cli.front", "Show the Pareto front of a study."),
        "show": ("nas.cli.show", "Show one network: its drawing, counts and figures."),
        "compare": ("nas.cli.compare", "Compare two trials side by side."),
        "report": ("nas.cli.report", "Write a study as one HTML page."),
        "serve": ("nas.cli.serve", "Show the record in a browser, live while a search runs."),
    },
    "Take away": {
        "export": ("nas.cli.export", "Write networks of a study as checked files."),
        "detect": ("nas.cli.detect", "Train, evaluate, measure and export detectors."),
        "verify": ("nas.cli.verify", "Check an exported folder on this machine."),
    },
    "Measure": {
        "doctor": ("nas.cli.doctor", "Show what this machine can measure, and why not the rest."),
        "measure": ("nas.cli.measure", "Measure latency, energy and memory of networks."),
        "device": (
            "nas.cli.device",
            "Manage the devices elsewhere that measure for this machine.",
        ),
    },
    "Studies and records": {
        "study": ("nas.cli.study", "List, copy, rename, delete, repair and convert studies."),
        "db": ("nas.cli.db", "Check the record, or copy it to another database."),
    },
    "Experiments": {
        "bench": ("nas.cli.bench", "Time the parts of osa-nas, and compare samplers and rules."),
        "paper": ("nas.cli.paper", "Repeat experiments of the VoVNet paper on this device."),
    },
}
"""The commands by sections of `nas --help`, each with its module and the first sentence of its
help.
"""
ALIASES = {
    "ablate": "paper",
    "connections": "paper",
    "export-optuna": "study",
    "peers": "paper",
    "remeasure": "study",
    "retry": "study",
}
"""Commands of groups that may also be typed without their group, as scripts do. `--help` leaves
them out.
"""


@click.group(
    cls=MainGroup,
    sections=SECTIONS,
    aliases=ALIASES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="osa-nas", prog_name="nas")
def main() -> None:
    """Find OSA (VoVNet) backbones that are fast, frugal and accurate on your device."""
