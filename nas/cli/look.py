"""`nas status`, `nas front`, `nas show`: what the record says."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from nas.analysis.finals import latest_results, results
from nas.analysis.posterior import UnbiasedHypervolume, front_now, unbiased_hypervolume
from nas.analysis.rank_agreement import agreements_of
from nas.analysis.relations import choices_seen, neighbours, positions
from nas.analysis.selection import condition, ordered
from nas.cli import main
from nas.cli.options import SIZE, database_option, open_record, pick_study, pick_trial
from nas.cli.progress import shown_url
from nas.cli.tables import MANY, PAGE, front_table
from nas.cli.watch import watch
from nas.core.architecture import Architecture
from nas.core.dominance import dominators
from nas.core.errors import InvalidValueError, NasError
from nas.core.measurement import MeasurementPlan
from nas.core.pareto import ParetoFront
from nas.core.pareto import front as front_of
from nas.core.pareto import knee as knee_of
from nas.core.published import PUBLISHED, published
from nas.core.stopping import Curves, Futility
from nas.core.study import Budget
from nas.core.trial import Trial, TrialState, Usage
from nas.core.units import format_duration, format_quantity, sparkline, with_interval
from nas.record import Store, StudyRecord, Summary
from nas.report import fronts
from nas.report.at_work import AtWork, at_work
from nas.report.drawing import draw
from nas.report.export_command import export_command, exportable
from nas.report.history import finished, front_at


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "--watch", "stay", is_flag=True, help="Stay, and show it anew every two seconds until Ctrl-C."
)
def status(study: str | None, database: str, *, stay: bool) -> None:
    """Studies with their trials by state; with STUDY, its hypervolume, its time and what is being
    done now.
    """
    console = Console(highlight=False)
    with open_record(database) as store:

        def draw(console: Console) -> None:
            if study is None:
                console.print(_studies(store))
                for record in store.studies():
                    if store.driver(record.name) is not None:
                        console.print(f"{record.name}:")
                        _at_work(
                            console, at_work(store, record, store.summary(record.name).running)
                        )
            else:
                _study_status(console, store, store.study(study))

        if stay:
            watch(console, draw)
        else:
            draw(console)


@main.command()
@click.argument("study", required=False)
@database_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "md", "csv", "json"]),
    default="text",
    show_default=True,
    help="A table, or SI units for other programs (csv, json).",
)
@click.option(
    "--at",
    type=click.IntRange(min=1),
    metavar="N",
    help="The front as it was after N finished trials.",
)
@click.option(
    "--where",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help="Only members such as 'latency < 4 ms'; may be given again.",
)
@click.option(
    "--sort",
    metavar="METRIC",
    help="By this figure, the smallest first. [default: the first objective]",
)
@click.option("--knee", is_flag=True, help="Only the best compromise of what is left.")
@click.option(
    "--sure",
    is_flag=True,
    help=f"How sure each membership is, of more than {MANY:,} trials too, which takes its time.",
)
@click.option("--all", "every", is_flag=True, help=f"Every row of the table, not the first {PAGE}.")
def front(
    *,
    study: str | None,
    database: str,
    form: str,
    at: int | None,
    conditions: tuple[str, ...],
    sort: str | None,
    knee: bool,
    sure: bool,
    every: bool,
) -> None:
    """The Pareto front of STUDY (or of the only one there is)."""
    selecting = bool(conditions or sort or knee)
    limit = None if every or form != "text" else PAGE
    with open_record(database) as store:
        record = pick_study(store, study)
        sure = sure or sum(record.counts.values()) <= MANY
        found, trials, fresh = _front(
            store, record, at, sure=sure, limit=None if selecting else limit
        )
        finals = latest_results(store.finals(record.name), list(trials.values()))
    if selecting:
        found = _selected(record, trials, found, conditions, sort, knee=knee)
    if form == "text":
        console = Console(highlight=False)
        console.print(
            front_table(record.spec, trials, found, limit=limit, sure=sure, finals=finals)
        )
        if limit is not None and len(found.members) > limit:
            console.print(
                "all of them: --all, or --format csv; others first: --sort; some: --where, --knee"
            )
        if fresh is not None:
            console.print(
                f"errors are posterior means over seeds; {fresh}", soft_wrap=not console.is_terminal
            )
    else:
        write = {"json": fronts.as_json, "csv": fronts.as_csv, "md": fronts.as_markdown}[form]
        click.echo(write(record.spec, trials, found, sure=sure, finals=finals).rstrip("\n"))


@main.command()
@click.argument("first", metavar="TRIAL")
@click.argument("second", metavar="TRIAL")
@database_option
def compare(first: str, second: str, database: str) -> None:
    """Two trials side by side: figures, rungs, and the choices that differ.

    TRIAL is STUDY:NUMBER, or NUMBER where there is one study.
    """
    with open_record(database) as store:
        pairs = [pick_trial(store, text) for text in (first, second)]
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for record, trial in pairs:
        table.add_column(f"{record.name}:{trial.number}")
    left, right = (trial for _, trial in pairs)
    for name, *shown in figures_of(left, right):
        table.add_row(name, *shown)
    for name in dict.fromkeys([*left.params, *right.params]):
        values = [str(trial.params.get(name, "-")) for trial in (left, right)]
        if values[0] != values[1]:
            table.add_row(name, *values)
    Console(highlight=False).print(table)
    if left.architecture.digest == right.architecture.digest:
        click.echo("the same network")


@main.command()
@click.argument("target", metavar="TRIAL")
@database_option
@click.option("--size", type=SIZE, help="Image size for the counts. [default: the study's, or 224]")
@click.option(
    "--latency",
    "timed",
    is_flag=True,
    help="Also time here which share of the latency each part takes, with random weights.",
)
def show(target: str, database: str, size: int | None, *, timed: bool) -> None:
    """One network drawn and counted, with its measurements and rungs, and how to take it away.

    TRIAL is STUDY:NUMBER (or NUMBER), the name of a published VoVNet such as vovnet39, or an
    architecture.json.
    """
    if target in PUBLISHED or target.endswith(".json"):
        network = published(target) if target in PUBLISHED else read_architecture(Path(target))
        click.echo(draw(network, size or 224, 1000))
        plan, classes = MeasurementPlan(image_size=size or 224), 1000
    else:
        with open_record(database) as store:
            record, trial = pick_trial(store, target)
            others, finals = store.trials(record.name), store.finals(record.name)
            kept = exportable(store, record.name)
        _show_trial(record, trial, size or record.spec.measurement.image_size)
        trained = [
            result for result in results(finals) if result.network == trial.architecture.digest
        ]
        for result in trained:
            click.echo(
                f"trained fully, {result.recipe.epochs:g} epochs: error {result} on the test images"
            )
        for line in _standing(record, trial, others):
            click.echo(line)
        if trial.number in kept or trial.duplicate_of in kept:
            click.echo(
                f"take it away: {export_command(record.name, trial.number, shown_url(database))}"
            )
        network, classes = trial.architecture, record.classes
        plan = replace(
            record.spec.measurement, image_size=size or record.spec.measurement.image_size
        )
    if timed:
        for line in _latency_shares(network, classes, plan):
            click.echo(line)


def _latency_shares(network: Architecture, classes: int, plan: MeasurementPlan) -> Iterator[str]:
    from nas.measuring.latency_shares import latency_shares
    from nas.measuring.meters import find_meter

    with find_meter() as meter:
        shares, runs = latency_shares(network, classes, replace(plan, runtime="eager"), meter)
        yield (
            f"share of the latency here, on {meter.device.name}, batch {plan.batch_size} at {plan.image_size} px, "
            f"{plan.precision}, eager: median of {runs} runs [nine of ten are within]"
        )
    for name, share in shares.items():
        yield f"{name:12}{share.median:>7.1%}  [{share.low:.1%} to {share.high:.1%}]"


def read_architecture(path: Path) -> Architecture:
    """The architecture of a JSON file. Raises `InvalidValueError` with the path."""
    try:
        return Architecture.from_dict(json.loads(path.read_text()))
    except (OSError, ValueError, AttributeError) as error:
        raise InvalidValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def figures_of(*trials: Trial) -> Iterator[list[str]]:
    """A row for every figure that one of the trials has: its name, then each trial's."""
    for metric in dict.fromkeys(name for trial in trials for name in trial.evaluation.measurements):
        known = [trial.evaluation.measurements.get(metric) for trial in trials]
        yield [metric, *("-" if figure is None else with_interval(figure) for figure in known)]
    for epochs in sorted({rung.epochs for trial in trials for rung in trial.evaluation.rungs}):
        errors = [
            next((r.error for r in trial.evaluation.rungs if r.epochs == epochs), None)
            for trial in trials
        ]
        yield [
            f"error after {epochs:g} epochs",
            *(format_quantity(error, "1", metric="error") for error in errors),
        ]


def _standing(record: StudyRecord, trial: Trial, others: Sequence[Trial]) -> Iterator[str]:
    """Whom it dominates, who dominates it, and which networks are most alike."""
    objectives = record.spec.objectives
    distinct = [t for t in others if t.duplicate_of is None or t.number == trial.number]
    rivals = [
        t for t in distinct if t.state is TrialState.COMPLETE and t.violation(objectives) == 0
    ]
    if trial.number in {t.number for t in rivals}:
        losses = np.asarray([t.losses(objectives) for t in rivals], dtype=float)
        own = np.asarray([trial.losses(objectives)], dtype=float)
        yield (
            f"dominates {int(dominators(-own, -losses)[0])} of {len(rivals)} feasible trials, "
            f"dominated by {int(dominators(own, losses)[0])}"
        )
    choices = choices_seen(distinct)
    nearest = neighbours(positions(distinct, choices), choices, 3)[
        [t.number for t in distinct].index(trial.number)
    ]
    if len(nearest):
        yield f"most alike: {', '.join(f'trial {distinct[index].number}' for index in nearest)}"


def _front(
    store: Store, record: StudyRecord, at: int | None, *, sure: bool, limit: int | None
) -> tuple[ParetoFront, Mapping[int, Trial], UnbiasedHypervolume | None]:
    """The front, now (by the means where networks were replicated) or after so many trials, all
    trials it was chosen from, unless `sure` only its first `limit` members, and what fresh seeds
    say.
    """
    objectives = record.spec.objectives
    if at is None and sure:
        seen = store.trials(record.name)
        return *front_now(seen, objectives), unbiased_hypervolume(seen, objectives)
    counts = store.summary(record.name).counts
    ended = sum(counts.values()) - counts[TrialState.RUNNING]
    found = (
        replace(store.newest_front(record.name) or front_of([], objectives), after=ended)
        if at is None
        else front_at(store.fronts(record.name), at, ended)
    )
    seen = (
        finished(store.trials(record.name))[:at]
        if sure
        else store.trials(record.name, found.members[:limit])
    )
    return found, {trial.number: trial for trial in seen}, None


def _selected(
    record: StudyRecord,
    trials: Mapping[int, Trial],
    found: ParetoFront,
    conditions: Sequence[str],
    sort: str | None,
    *,
    knee: bool,
) -> ParetoFront:
    """The members that fulfil every condition, in the order that was asked for, or only the best
    compromise of them.
    """
    tests = [condition(text, list(trials.values())) for text in conditions]
    members = [
        trial
        for trial in (trials[number] for number in found.members)
        if all(test(trial) for test in tests)
    ]
    if sort is not None:
        members = ordered(members, sort)
    if knee:
        if members and not found.feasible:
            raise NasError("nothing is feasible yet, so there is no compromise to choose")
        members = [knee_of(members, record.spec.objectives)]
    return replace(found, members=tuple(trial.number for trial in members))


def _studies(store: Store) -> Table:
    table = Table(box=box.SIMPLE)
    for heading in ("study", "trials", "hypervolume", "data"):  # else the name is left out
        table.add_column(heading, overflow="fold")
    table.add_column("begun (UTC)", no_wrap=True)
    for record in store.studies():
        states = ", ".join(f"{count} {state}" for state, count in record.counts.items() if count)
        volumes = [volume for _, volume in store.hypervolumes(record.name)]
        table.add_row(
            record.name,
            states,
            sparkline(volumes, 11),
            record.dataset,
            f"{record.created_at:%Y-%m-%d %H:%M}",
        )
    return table


def _study_status(console: Console, store: Store, record: StudyRecord) -> None:
    spec, known = record.spec, store.summary(record.name)
    volumes = [volume for _, volume in store.hypervolumes(record.name)]
    objectives = ", ".join(o.metric for o in spec.objectives)
    console.print(
        f"{record.name}: {objectives} over {spec.space} by {spec.sampler}, data {record.dataset}"
    )
    counts = {
        **known.counts,
        TrialState.STOPPED: known.counts[TrialState.STOPPED] - known.skipped,
    }
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    console.print(
        f"{sum(counts.values())} of {spec.search_budget.trials} architectures{f' ({states})' if states else ''}, "
        f"{known.repeated} repeated proposals"
    )
    if known.skipped:
        console.print(
            f"{known.skipped} more cost no training: beyond a limit, or passed over once measured"
        )
    for line in spending(spec.search_budget, known, fresh=spec.fresh):
        console.print(line)
    if volumes:
        console.print(
            f"hypervolume {volumes[-1]:.5g}{' as it was searched' if known.replicates else ''}  "
            f"{sparkline(volumes)}"
        )
    for line in _rungs(store, record):
        console.print(line)
    _at_work(console, at_work(store, record, known.running))
    for number, reason in known.failed:
        console.print(f"trial {number} failed: {reason}")


def _at_work(console: Console, found: AtWork) -> None:
    """Who does what."""
    console.print(found.heading)
    table = Table.grid(padding=(0, 2, 0, 0))
    for each in found.works:
        table.add_row(
            f"  {each.worker or 'no worker yet'}",
            f"trial {each.trial}",
            each.doing,
            format_duration(each.lasted_s),
        )
    if found.works:
        console.print(table)
    for line in found.device:
        console.print(line)


def spending(budget: Budget, known: Summary, *, fresh: float = 0.0) -> Iterator[str]:
    """What was spent, and of limited means how much is left; what other seeds took, and their share
    of the whole.
    """
    spent = known.spent
    yield (
        f"{format_duration(known.searched_s)} of searching; on all workers together {format_duration(spent.measuring_s)} "
        f"measuring, {format_duration(spent.training_s)} training, {format_duration(spent.validation_s)} validating, "
        f"{format_duration(spent.waiting_s)} waiting for the device"
        f"{'' if known.engine_s is None else f', {format_duration(known.engine_s)} of the engine'}"
    )
    own = f", {100 * (1 - fresh):.3g} % of it for the search" if fresh else ""
    energy = (
        "energy not measured" if spent.energy_j is None else format_quantity(spent.energy_j, "J")
    )
    if spent.measuring_j is not None:
        energy += f" ({format_quantity(spent.measuring_j, 'J')} of it measuring)"
    if known.engine_j is not None:
        energy += f", {format_quantity(known.engine_j, 'J')} more of the engine"
    yield f"{spent.epochs:g} epochs, {format_duration(spent.device_s)} of device time, {energy}"
    for what, limit, used, shown in (
        ("searching", budget.wall_time_s, known.searched_s, format_duration),
        ("epochs", budget.epochs, spent.epochs, "{:g}".format),
        ("device time", budget.device_s, spent.device_s, format_duration),
        ("energy", budget.energy_j, spent.energy_j or 0.0, "{:.4g} J".format),
    ):
        if limit is not None:
            yield f"budget of {what}{own}: {shown(used)} of {shown(limit)} spent, {shown(max(limit - used, 0.0))} left"
    if known.replicates or fresh:
        share = f"; {100 * fresh:.3g} % of the budget, in the end" if fresh else ""
        yield f"other seeds: {known.replicates} trainings, {_taken(known.spent_again)}{share}"
    if known.finals:
        yield f"final trainings: {known.finals}, {_taken(known.spent_finally)}"


def _taken(spent: Usage) -> str:
    """What trainings beside the search took."""
    energy = "" if spent.energy_j is None else f", {format_quantity(spent.energy_j, 'J')}"
    return f"{spent.epochs:g} epochs, {format_duration(spent.device_s)} of device time{energy}"


def _rungs(store: Store, record: StudyRecord) -> Iterator[str]:
    """How rungs agree with the last one, and whether futility stops anybody."""
    spec = record.spec
    if len(spec.rungs) == 1:
        return
    errors = store.rung_errors(record.name)
    last = max((max(each) for each in errors), default=0.0)
    for found in agreements_of(errors):
        if found.second == last:
            top = (
                "" if found.top_tau is None else f", {found.top_tau:.2f} among the best {found.top}"
            )
            yield (
                f"rung {found.first:g} against {last:g} epochs: Kendall's tau {found.tau:.2f} over {found.trials} "
                f"trials{top}"
            )
    if spec.stopping.futility:
        curves = Curves.of(store.trials(record.name), spec.objectives)
        for position, rung in enumerate(spec.rungs[:-1], start=1):
            yield f"futility after {rung}: {Futility(curves, position).description}"


def _show_trial(record: StudyRecord, trial: Trial, size: int) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"trial {trial.number} of {record.name}: {trial.state}{f', {trial.reason}' if trial.reason else ''}"
    )
    if trial.duplicate_of is not None:
        console.print(f"the same network as trial {trial.duplicate_of}, whose figures these are")
    click.echo(draw(trial.architecture, size, record.classes))
    for measurement in trial.evaluation.measurements.values():
        device = f" on {measurement.device.name}" if measurement.device else ""
        plan = measurement.plan
        context = (
            f", batch {plan.batch_size} at {plan.image_size} px, {plan.precision}" if plan else ""
        )
        console.print(
            f"{measurement.metric:20} {with_interval(measurement)}  ({measurement.kind}{device}{context})"
        )
    for rung in trial.evaluation.rungs:
        console.print(
            f"error after {rung.epochs:g} epochs: {format_quantity(rung.error, '1', metric='error')} "
            f"({format_duration(rung.train_s)} of training)"
        )
    fresh = [
        format_quantity(error, "1", metric="error") for error in trial.evaluation.replicate_errors()
    ]
    if fresh:
        console.print(f"error with other seeds: {', '.join(fresh)}")
    console.print(f"digest {trial.architecture.digest}")
