"""`nas bench scores`: whether scores of untrained networks tell what training finds."""

from functools import partial

import click
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from nas.analysis.rank_agreement import agreement
from nas.cli.bench import bench
from nas.cli.options import database_option, open_record, pick_study
from nas.cli.tables import echo_wide
from nas.core import plugins
from nas.core.complexity import totals
from nas.core.errors import NasError
from nas.core.stopping import SIZES
from nas.core.trial import Trial, TrialState
from nas.record import StudyRecord

FEWEST = 12


@bench.command()
@click.argument("study", required=False)
@database_option
def scores(*, study: str | None, database: str) -> None:
    """Scores of STUDY's networks before training against their errors after it.

    Kendall's tau with the error, over all networks and the best quarter, so that 1 is a perfect
    score; and what the sampler's model gains by the score as one more input: the deviation of its
    predictions of the logarithm of each error from all others, and the mean logarithm of the
    density that it gave to what was found. The model knows choices, parameters, MACs and memory
    access cost anyway. A space of the study's own is looked for in this folder.
    """
    from nas.measuring.metrics import untrained

    with open_record(database) as store:
        record = pick_study(store, study)
        trials = [
            trial
            for trial in store.trials(record.name)
            if trial.state is TrialState.COMPLETE
            and trial.duplicate_of is None
            and trial.evaluation.rungs
        ]
    if len(trials) < FEWEST:
        raise NasError(f"{len(trials)} networks of {record.name} were trained; {FEWEST} are needed")
    plugins.look_in(".")
    plugins.load("nas.spaces", record.spec.space)  # now, and not after the minutes that scores take
    size = int(record.numerics.get("image_size", 32))
    names = plugins.names("nas.scores")
    rows = [untrained.scores(trial.architecture, size, record.classes, names) for trial in trials]
    columns = {name: np.array([row[name] for row in rows]) for name in names}
    columns |= {
        name: np.array([float(trial.evaluation.value(name) or 0) for trial in trials])
        for name in SIZES
    }
    echo_wide(f"{len(trials)} networks of {record.name}, {size} pixels")
    echo_wide(_table(record, trials, columns))


def _table(
    record: StudyRecord, trials: list[Trial], columns: dict[str, NDArray[np.float64]]
) -> Table:
    from nas.bench.scoring import left_out

    errors = np.array([trial.evaluation.rungs[-1].error for trial in trials])
    shown = Table("input", "tau", "of the best quarter", "deviation", "log density", box=box.SIMPLE)
    counts = partial(
        totals, image_size=record.spec.measurement.image_size, num_classes=record.classes
    )
    model = partial(left_out, plugins.load("nas.spaces", record.spec.space), counts, trials)
    shown.add_row("none more", "", "", *_cells(model(None)))
    for name, values in columns.items():
        both = agreement(0, 1, np.column_stack([-values, errors]))
        taus = [
            "-" if tau is None else f"{tau:.2f}"
            for tau in (both and both.tau, both and both.top_tau)
        ]
        shown.add_row(name, *taus, *(("", "") if name in SIZES else _cells(model(values))))
    return shown


def _cells(quality: tuple[float, float]) -> tuple[str, str]:
    return f"{quality[0]:.4f}", f"{quality[1]:.3f}"
