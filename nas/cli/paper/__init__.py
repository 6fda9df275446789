"""`nas paper`: the experiments of the VoVNet paper on networks and devices of yours."""

from nas.cli import main
from nas.cli.group import LazyGroup

COMMANDS = {
    "ablate": (
        "nas.cli.paper.ablate",
        "Set connections of a DenseNet to zero, and test it.",
    ),
    "connections": (
        "nas.cli.paper.connections",
        "Show how strongly the layers of a network are connected.",
    ),
    "peers": ("nas.cli.paper.peers", "Compare the VoVNet paper's networks on this device."),
}
"""The module of each command, and the first sentence of its help."""


@main.group(cls=LazyGroup, table=COMMANDS)
def paper() -> None:
    """Repeat experiments of the VoVNet paper on this device."""
