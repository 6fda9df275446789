"""`nas replicate`: networks of trials, trained again with other seeds."""

from collections.abc import Sequence
from functools import partial

import click

from nas.cli import main
from nas.cli.options import (
    change_record,
    database_option,
    no_front_yet,
    pick_study,
    trial_option,
    workers_options,
)
from nas.cli.training_progress import ReplicateDisplay, run_trainings
from nas.core.errors import InvalidValueError, NasError
from nas.core.pareto import front as front_of
from nas.core.trial import Trial
from nas.record import StudyRecord


@main.command()
@click.argument("study", required=False)
@database_option
@trial_option("Train this trial's network.")
@click.option("--front", is_flag=True, help="Train the members of the front.")
@click.option("--all", "everything", is_flag=True, help="Train all complete trials.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Replicates of each network besides the search's own training; recorded ones count.",
)
@workers_options
def replicate(
    *,
    study: str | None,
    database: str,
    numbers: tuple[int, ...],
    front: bool,
    everything: bool,
    seeds: int,
    workers: str | None,
    address: str | None,
) -> None:
    """Train networks of a study again with other seeds.

    They are trained as the search did, on its training and validation images. The front is then
    computed from the posterior mean errors and shows their confidence intervals. Press Ctrl-C at
    any time: every rung is kept, and the same command continues.
    """
    from nas.searching.launch import code_folder
    from nas.searching.replicates import missing_trainings, open_replicates, select_trials

    with change_record(database) as store:
        record = pick_study(store, study)
        if bool(numbers) + front + everything != 1:
            raise InvalidValueError(
                "say what to train again by one of --front, --all and --trial N"
            )
        if not record.spec.needs_training:
            raise NasError(
                f"study {record.name!r} trains nothing, so its figures do not depend on seeds"
            )
        trials = store.trials(record.name)
        if numbers:
            selected = select_trials(trials, set(numbers))
        elif everything:
            selected = select_trials(trials)
        else:
            selected = _members(record, trials)
        todo = missing_trainings(record.spec, selected, seeds)
        if not todo:
            click.echo(f"{len(selected)} networks have {seeds} replicates each already")
            return
        total = len(selected) * seeds
        display = ReplicateDisplay(record.spec, total, total - len(todo))
        kind = workers or record.spec.workers.kind
        open_trainings = partial(open_replicates, store, record.name, todo)
        folder = code_folder(record)
        run_trainings(open_trainings, display, kind=kind, address=address, folder=folder)


def _members(record: StudyRecord, trials: Sequence[Trial]) -> list[Trial]:
    """Return the members of the front. Raises `NasError` if nothing is within every limit."""
    from nas.searching.replicates import select_trials

    front = front_of(trials, record.spec.objectives)
    if not front.feasible:
        raise no_front_yet(record.name)
    return select_trials(trials, front.members)
