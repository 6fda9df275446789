"""`nas status`: studies, their trials, and what is being done now."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from nas.analysis.baselines import is_finished
from nas.cli import main
from nas.cli.json_output import echo_json, json_option
from nas.cli.options import database_option, open_record
from nas.cli.tables import FittedTable, terminal
from nas.cli.watch import watch
from nas.core.study import Budget
from nas.core.trial import TrialState, Usage
from nas.core.units import format_duration, format_hypervolume, format_quantity, sparkline
from nas.record import Summary
from nas.report.at_work import AtWork, overlap_line
from nas.report.study_facts import StudyBrief, StudyFacts, study_briefs, study_facts

if TYPE_CHECKING:
    from nas.record import Store


@main.command()
@click.argument("study", required=False)
@database_option
@click.option("--watch", "stay", is_flag=True, help="Show it again every two seconds until Ctrl-C.")
@json_option("studies", "study")
def status(study: str | None, database: str, *, stay: bool, as_json: bool) -> None:
    """Show studies, their trials and what is being done now.

    With STUDY, show also its hypervolume, its time and its budgets.
    """
    if stay and as_json:
        raise click.UsageError("--watch is for a terminal, --json for programs; give one of them")
    with open_record(database) as store:
        if as_json and study is None:
            echo_json("studies", {"studies": [each.to_dict() for each in study_briefs(store)]})
        elif as_json and study is not None:
            echo_json("study", study_facts(store, store.study(study)).to_dict())
        elif stay:
            watch(terminal(), lambda console: _print(console, store, study))
        else:
            _print(terminal(), store, study)


def _print(console: Console, store: "Store", study: str | None) -> None:
    if study is None:
        _print_studies(console, list(study_briefs(store)))
    else:
        _print_study(console, study_facts(store, store.study(study)))


def spending(budget: Budget, summary: Summary, *, fresh: float = 0.0) -> Iterator[str]:
    """Return lines on what a study has spent, and what is left of its budgets.

    `fresh` is the share of every budget that is reserved for trainings with other seeds.
    """
    spent = summary.spent
    engine = (
        "" if summary.engine_s is None else f", {format_duration(summary.engine_s)} of the engine"
    )
    yield (
        f"{format_duration(summary.searched_s)} of searching; on all workers together "
        f"{format_duration(spent.measuring_s)} measuring, {format_duration(spent.training_s)} "
        f"training, {format_duration(spent.validation_s)} validating, "
        f"{format_duration(spent.waiting_s)} waiting for the device{engine}"
    )
    yield (
        f"{spent.epochs:g} epochs, {format_duration(spent.device_s)} of device time, "
        f"{_energy(summary)}"
    )
    own = f", {100 * (1 - fresh):.3g} % of it for the search" if fresh else ""
    for name, limit, used, shown in (
        ("searching", budget.wall_time_s, summary.searched_s, format_duration),
        ("epochs", budget.epochs, spent.epochs, "{:g}".format),
        ("device time", budget.device_s, spent.device_s, format_duration),
        ("energy", budget.energy_j, spent.energy_j or 0.0, "{:.4g} J".format),
    ):
        if limit is not None:
            left = shown(max(limit - used, 0.0))
            yield f"budget of {name}{own}: {shown(used)} of {shown(limit)} spent, {left} left"
    if summary.replicates or fresh:
        share = f"; {100 * fresh:.3g} % of the budget, at the end" if fresh else ""
        usage = _usage(summary.spent_again)
        yield f"other seeds: {summary.replicates} trainings, {usage}{share}"
    if summary.finals:
        yield f"final trainings: {summary.finals}, {_usage(summary.spent_finally)}"


def _energy(summary: Summary) -> str:
    usage = summary.spent
    parts = [
        "energy not measured" if usage.energy_j is None else format_quantity(usage.energy_j, "J")
    ]
    if usage.measuring_j is not None:
        parts[0] += f" ({format_quantity(usage.measuring_j, 'J')} of it measuring)"
    if summary.engine_j is not None:
        parts.append(f"{format_quantity(summary.engine_j, 'J')} more of the engine")
    return ", ".join(parts)


def _usage(usage: Usage) -> str:
    energy = "" if usage.energy_j is None else f", {format_quantity(usage.energy_j, 'J')}"
    return f"{usage.epochs:g} epochs, {format_duration(usage.device_s)} of device time{energy}"


def studies_table(studies: Sequence[StudyBrief]) -> FittedTable:
    """Return the studies as a table."""
    table = Table("study", "trials", "hypervolume", "data", "begun (UTC)")
    for study in studies:
        archived = " (archived)" if study.record.archived_at else ""
        table.add_row(
            f"{study.record.name}{archived}",
            _states(study.record.counts, study.work.driver),
            sparkline(list(study.hypervolumes), 11),
            study.record.dataset,
            f"{study.record.created_at:%Y-%m-%d %H:%M}",
        )
    return FittedTable(table)


def _print_studies(console: Console, studies: Sequence[StudyBrief]) -> None:
    """Print studies, then the work on those that a process drives."""
    console.print(studies_table(studies))
    for study in studies:
        if study.work.driver is not None:
            console.print(f"{study.record.name}:")
            _print_work(console, study.work)


def _states(counts: Mapping[TrialState, int], driver: str | None) -> str:
    """Return the trials by state; without a driver, running ones are unfinished."""
    unfinished = {TrialState.RUNNING: "unfinished"} if driver is None else {}
    return ", ".join(
        f"{count} {unfinished.get(state, state)}" for state, count in counts.items() if count
    )


def _from_elsewhere(summary: Summary) -> str:
    """Return how many networks came with their evaluations, by state; nothing if none did."""
    if not summary.copied:
        return ""
    states = _states(summary.copies, driver=None)
    return f"; {summary.copied} came by copy or import ({states}) and count in no budget"


def _print_study(console: Console, facts: StudyFacts) -> None:
    record, summary = facts.record, facts.summary
    spec = record.spec
    objectives = ", ".join(objective.key for objective in spec.objectives)
    console.print(
        f"{record.name}: {objectives} over {spec.space} by {spec.sampler}, data {record.dataset}"
    )
    counts = {state: n - summary.copies.get(state, 0) for state, n in summary.counts.items()}
    counts[TrialState.STOPPED] -= summary.skipped
    states = _states(counts, facts.work.driver)
    console.print(
        f"{sum(counts.values())} of {spec.search_budget.trials} "
        f"{'new networks' if summary.copied else 'architectures'}"
        f"{f' ({states})' if states else ''}"
        f"{_from_elsewhere(summary)}, {summary.repeated} repeated proposals"
    )
    if summary.skipped:
        console.print(
            f"{summary.skipped} more cost no training: over a limit, or skipped once measured"
        )
    for line in spending(spec.search_budget, summary, fresh=spec.fresh):
        console.print(line)
    if spec.baselines:
        finished = sum(is_finished(spec, each) for each in facts.baselines)
        console.print(
            f"{finished} of {len(spec.baselines)} baselines are measured and trained, outside "
            "every budget"
        )
    if overlap := overlap_line(spec, summary):
        console.print(overlap)
    volumes = [volume for _, volume in facts.hypervolumes]
    if volumes:
        searched = " of the search's own trainings" if summary.replicates else ""
        volume = format_hypervolume(volumes[-1], spec.reference_box)
        console.print(f"hypervolume {volume}{searched}  {sparkline(volumes)}")
    for line in _rung_lines(facts):
        console.print(line)
    _print_work(console, facts.work)
    for number, reason in summary.failed:
        console.print(f"trial {number} failed: {reason}")


def _print_work(console: Console, work: AtWork) -> None:
    """Print which process drives a study, its workers with their trials, and the device."""
    console.print(work.heading)
    for each in work.works:
        worker = each.worker or "no worker yet"
        line = f"trial {each.trial}: {each.doing}, {format_duration(each.lasted_s)}, {worker}"
        console.print(Padding(line, (0, 0, 0, 2), expand=False))
    for line in work.device:
        console.print(line)


def _rung_lines(facts: StudyFacts) -> Iterator[str]:
    """Return how well each rung predicts the last one, and the state of the futility rule."""
    for metric, agreement in facts.agreements:
        top = (
            ""
            if agreement.top_tau is None
            else f", {agreement.top_tau:.2f} among the best {agreement.top}"
        )
        yield (
            f"{metric.name} at rung {agreement.first:g} against {agreement.second:g} epochs: "
            f"Kendall's tau {agreement.tau:.2f} over {agreement.trials} trials{top}"
        )
    for rung, description in facts.futility:
        yield f"futility after {rung}: {description}"
