"""Which trials' networks can be taken away, and what to type for it."""

import shlex

from nas.record import Store


def export_command(study: str, trial: int | str, database: str) -> str:
    """`nas export` for a trial of a record; what a shell would misunderstand is quoted."""
    option = "" if database == "nas.db" else f" --database {shlex.quote(database)}"
    return f"nas export {shlex.quote(study)} --trial {trial} -o {shlex.quote(f'{study}-{trial}')}{option}"


def exportable(store: Store, study: str) -> frozenset[int]:
    """The trials whose weights are kept, by number; duplicates share those of their originals."""
    return frozenset(
        artifact.trial for artifact in store.artifacts(study) if artifact.trial is not None
    )
