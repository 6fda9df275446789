"""What to type to take a trial's network away."""

import shlex


def export_command(study: str, trial: int | str, database: str) -> str:
    """`nas export` for a trial of a record; what a shell would misunderstand is quoted."""
    option = "" if database == "nas.db" else f" --database {shlex.quote(database)}"
    return f"nas export {shlex.quote(study)} --trial {trial} -o {shlex.quote(f'{study}-{trial}')}{option}"
