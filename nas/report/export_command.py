"""The trials whose networks can be exported, and the command for it."""

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.record import Store


def export_command(study: str, trial: int, database: str) -> str:
    """Return the `nas export` command for a trial, with every part quoted for a shell."""
    option = "" if database == "nas.db" else f" --database {shlex.quote(database)}"
    name, folder = shlex.quote(study), shlex.quote(f"{study}-{trial}")
    return f"nas export {name} --trial {trial} -o {folder}{option}"


def exportable(store: "Store", study: str) -> frozenset[int]:
    """Return the numbers of the trials whose weights are stored.

    A duplicate shares the weights of its original.
    """
    return frozenset(
        artifact.trial for artifact in store.artifacts(study) if artifact.trial is not None
    )
