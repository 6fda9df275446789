"""`nas study`: studies as a whole."""

from nas.cli import main
from nas.cli.group import LazyGroup

COMMANDS = {
    "archive": ("nas.cli.study.archive", "Hide a study from lists."),
    "copy": ("nas.cli.study.manage", "Copy a study, also under other limits or in another space."),
    "delete": ("nas.cli.study.manage", "Delete a study with its trials, figures and checkpoints."),
    "export-optuna": ("nas.cli.study.export_optuna", "Write a study to an Optuna database."),
    "import": (
        "nas.cli.study.import_results",
        "Add networks with figures of elsewhere to a study.",
    ),
    "list": ("nas.cli.study.archive", "List the studies of the record."),
    "remeasure": (
        "nas.cli.study.remeasure",
        "Measure the front of a study under other conditions.",
    ),
    "rename": ("nas.cli.study.manage", "Give a study another name."),
    "retry": ("nas.cli.study.retry", "Let failed trials of a study be tried again."),
}
"""The module of each command, and the first sentence of its help."""


@main.group(cls=LazyGroup, table=COMMANDS)
def study() -> None:
    """List, copy, rename, delete, repair and convert studies."""
