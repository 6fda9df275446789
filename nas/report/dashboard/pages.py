"""The pages of the live view, as HTML text. Everything from the record goes through the templates,
which escape it.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from nas.core.trial import Trial
from nas.core.units import format_duration, format_quantity, with_interval
from nas.record import StudyRecord
from nas.report.contents import Study
from nas.report.export_command import export_command
from nas.report.page import embedded, page, trusted
from nas.report.svg import draw_svg


def list_page(records: Sequence[StudyRecord]) -> str:
    """All studies."""
    return page("list.html", title="Studies", records=records, quote=quote)


def study_page(name: str, values: dict[str, Any]) -> str:
    """One study; the page asks for its contents again and again."""
    return page(
        "study.html",
        title=f"Study {name}",
        contents=embedded(values),
        made_at="live",
        live=f"/api/contents?study={quote(name, safe='')}",
    )


def trial_page(study: Study, trial: Trial) -> str:
    """One trial: its network, figures, rungs, params and how to export it."""
    original = trial.number if trial.duplicate_of is None else trial.duplicate_of
    return page(
        "trial.html",
        title=f"Trial {trial.number} of {study.record.name}",
        record=study.record,
        trial=trial,
        drawing=_drawing(study.record, trial),
        figures=_figures(trial),
        quote=quote,
        command=export_command(study.record.name, trial.number, study.database),
        kept=original in study.with_weights,
    )


def compare_page(record: StudyRecord, first: Trial, second: Trial) -> str:
    """Two trials side by side; rows that differ are marked."""
    left, right = dict(_figures(first)), dict(_figures(second))
    rows = [
        (name, left.get(name, "-"), right.get(name, "-")) for name in dict.fromkeys([*left, *right])
    ]
    params = [
        (name, str(first.params.get(name, "-")), str(second.params.get(name, "-")))
        for name in dict.fromkeys([*first.params, *second.params])
    ]
    return page(
        "compare.html",
        title=f"Trials {first.number} and {second.number} of {record.name}",
        record=record,
        trials=(first, second),
        drawings=(_drawing(record, first), _drawing(record, second)),
        rows=[*rows, *params],
        quote=quote,
    )


def _drawing(record: StudyRecord, trial: Trial) -> Any:
    return trusted(draw_svg(trial.architecture, record.spec.measurement.image_size, record.classes))


def _figures(trial: Trial) -> list[tuple[str, str]]:
    """Names and texts of all that is known of a trial's network."""
    figures = [
        (name, with_interval(figure)) for name, figure in trial.evaluation.measurements.items()
    ]
    rungs = [
        (
            f"error after {rung.epochs:g} epochs",
            f"{format_quantity(rung.error, '1', metric='error')} ({format_duration(rung.train_s)} of training)",
        )
        for rung in trial.evaluation.rungs
    ]
    return [*figures, *rungs]
