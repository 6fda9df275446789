"""Networks that a study file names: published VoVNets, architecture.json files, trials."""

from pathlib import Path

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError
from nas.core.foreign import ForeignNetwork, is_foreign
from nas.measuring.targets import find_architecture
from nas.model.foreign import build_foreign
from nas.record import Store


def named_architecture(text: str, store: Store | None, folder: Path) -> Architecture:
    """Return the architecture of a published name, an architecture.json or `STUDY:TRIAL`.

    A file is looked for beside the study file, in `folder`, and then in the current folder. Without
    a `store` there are no trials. Raises `NasError` for an unknown network.
    """

    def find_trial(name: str) -> tuple[Architecture, int]:
        study, _, number = name.rpartition(":")
        if store is None:
            raise InvalidValueError(f"{name}: there is no record yet, so there are no trials")
        return store.trial(study, int(number)).architecture, 0

    beside = folder / text
    is_file = text.endswith(".json") and beside.is_file()
    return find_architecture(str(beside) if is_file else text, find_trial)


def named_network(text: str, store: Store | None, folder: Path) -> Architecture | ForeignNetwork:
    """Return the architecture of this name, or the network of another package.

    Raises `MissingDependencyError` if the package is not installed, and `NasError` for an unknown
    network or one that the package cannot build.
    """
    if not is_foreign(text):
        return named_architecture(text, store, folder)
    build_foreign(text)
    return ForeignNetwork(name=text)
