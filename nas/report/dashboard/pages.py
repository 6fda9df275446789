"""The pages of the live view as HTML text.

All values from the record pass through the templates, which escape them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from nas.core.study import StudySpec
from nas.core.trial import Trial
from nas.core.units import with_interval
from nas.record import StudyRecord
from nas.report.contents import Study
from nas.report.export_command import export_command
from nas.report.fronts import rung_figures
from nas.report.page import embedded, page, trusted
from nas.report.svg import draw_svg


def list_page(records: Sequence[StudyRecord]) -> str:
    """Return the page that lists all studies."""
    return page("list.html", title="Studies", records=records, quote=quote)


def study_page(name: str, values: dict[str, Any]) -> str:
    """Return the page of one study, which requests its contents every few seconds."""
    return page(
        "study.html",
        title=f"Study {name}",
        contents=embedded(values),
        made_at="live",
        live=f"/api/contents?study={quote(name, safe='')}",
    )


def trial_page(study: Study, trial: Trial) -> str:
    """Return the page of one trial: network, figures, rungs, params and the export command."""
    original = trial.number if trial.duplicate_of is None else trial.duplicate_of
    return page(
        "trial.html",
        title=f"Trial {trial.number} of {study.record.name}",
        record=study.record,
        trial=trial,
        drawing=_drawing(study.record, trial),
        figures=_figures(study.record.spec, trial),
        quote=quote,
        command=export_command(study.record.name, trial.number, study.database),
        kept=original in study.with_weights,
    )


def compare_page(record: StudyRecord, first: Trial, second: Trial) -> str:
    """Return the page with two trials side by side. Rows that differ are marked."""
    left, right = (dict(_figures(record.spec, each)) for each in (first, second))
    rows = [*_pairs(left, right), *_pairs(first.params, second.params)]
    return page(
        "compare.html",
        title=f"Trials {first.number} and {second.number} of {record.name}",
        record=record,
        trials=(first, second),
        drawings=(_drawing(record, first), _drawing(record, second)),
        rows=rows,
        quote=quote,
    )


def _pairs(
    left: Mapping[str, object], right: Mapping[str, object]
) -> Iterator[tuple[str, str, str]]:
    """Yield each name with both values as text, "-" for a missing one."""
    for name in dict.fromkeys([*left, *right]):
        yield name, str(left.get(name, "-")), str(right.get(name, "-"))


def _drawing(record: StudyRecord, trial: Trial) -> Any:
    return trusted(draw_svg(trial.architecture, record.spec.measurement.image_size, record.classes))


def _figures(spec: StudySpec, trial: Trial) -> list[tuple[str, str]]:
    """Return names and texts of all figures and rungs of a trial's network."""
    figures = [
        (name, with_interval(figure)) for name, figure in trial.evaluation.measurements.items()
    ]
    return [*figures, *rung_figures(spec, trial)]
