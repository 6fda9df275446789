"""Import results of elsewhere into a study: networks with figures that were made by its conditions.

Imported trials teach the sampler and count in none of the study's budgets. Everything is checked
before anything is written, and one transaction writes it.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.checks import require_finite, shortened, shortlist
from nas.core.errors import MALFORMED, InvalidValueError, NasError, next_command
from nas.core.measurement import Kind, Measurement, Status, same_class
from nas.core.pareto import front
from nas.core.search_space import Choice, Params, SearchSpace, decoded
from nas.core.seeds import trial_seed
from nas.core.trial import Evaluation, Rung, Trial, TrialState
from nas.core.units import parse_quantity
from nas.measuring.meters import Meter, find_meter
from nas.measuring.metrics import Subject, find_metric
from nas.record import Store, StudyRecord
from nas.record.conditions import figure_conditions, recipe_digest
from nas.searching.identity import require_same_parts
from nas.searching.launch import code_folder
from nas.searching.networks import named_architecture
from nas.searching.result_files import Entry, Results
from nas.searching.start_networks import checked_params, params_of_named

MAX_PLACES = 5
"""A message names at most this many entries with the same problem."""
ABOUT_ENTRIES = frozenset(
    {"architecture", "digest", "record", "study", "trial", "recipe"}
    | {"duplicate_of", "reason", "standing", "violation"}
)
"""Names of an entry that are no figures; the last four are in exports."""

POSITIVE_UNITS = frozenset({"s", "J", "B"})
"""Units of figures that cannot be zero: times, energies and sizes of memory."""


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import took: the numbers of new trials and of duplicates, and the figures that it
    left out.
    """

    trials: int
    duplicates: int
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """What the caller confirms of figures that do not state it: that they were measured as the
    study measures, and that they were trained by its recipe.
    """

    same_device: bool = False
    same_recipe: bool = False


def import_results(
    store: Store, study: str, results: Results, confirmed: Confirmed, now: datetime
) -> Imported:
    """Add the results to a study as complete trials.

    Raises `InvalidValueError` with a line for each problem of the entries, and then nothing is
    written. Raises `StudyConflictError` if a process drives the study.
    """
    store.study(study)
    with store.claim(study), find_meter("cpu") as meter:
        record, trials = store.study(study), store.trials(study)
        target = _Target(store, record, trials, results.folder, confirmed=confirmed, meter=meter)
        seen = {trial.architecture.digest for trial in trials}
        new: list[Trial] = []
        problems: dict[str, list[str]] = defaultdict(list)
        for entry in results.entries:
            of_entry: list[str] = []
            trial = target.trial(entry, results.source, len(trials) + len(new), of_entry)
            for problem in of_entry:
                problems[problem].append(entry.place)
            if trial is not None and trial.architecture.digest not in seen:
                seen.add(trial.architecture.digest)
                new.append(replace(trial, started_at=now, finished_at=now))
        if problems:
            lines = [
                f"{results.source}, {shortlist(p, MAX_PLACES)}: {text}"
                for text, p in problems.items()
            ]
            raise InvalidValueError("\n".join(lines))
        if new:
            _write(store, record, [*trials, *new], new)
    names = {name for entry in results.entries for name in entry.values}
    return Imported(
        trials=len(new),
        duplicates=len(results.entries) - len(new),
        left_out=tuple(sorted(name for name in names if not target.takes(name))),
    )


def _write(
    store: Store, record: StudyRecord, trials: Sequence[Trial], new: Sequence[Trial]
) -> None:
    with store.transaction():
        for trial in new:
            store.add_trial(record.name, trial)
        new_front = front(trials, record.spec.objectives)
        if new_front.members:
            store.add_front(record.name, new_front)


class _Target:
    """The study into which results come. `reference` is a complete trial, with whose figures those
    of the results must be comparable. `counted` are the metrics that are counted here.

    Raises `InvalidValueError` without a complete trial, and `StudyConflictError` if the space is
    another one than when the study began.
    """

    def __init__(
        self,
        store: Store,
        record: StudyRecord,
        trials: Sequence[Trial],
        folder: Path,
        *,
        confirmed: Confirmed,
        meter: Meter,
    ) -> None:
        code_folder(record)
        self.store, self.record, self.meter = store, record, meter
        self.folder, self.confirmed = folder, confirmed
        self.space: SearchSpace = plugins.load("nas.spaces", record.spec.space)
        if record.identity is not None:
            require_same_parts(record.name, record.identity, self.space, {})
        complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
        if not complete:
            raise InvalidValueError(
                f"{record.name} has no complete trial yet, with which others could be compared; "
                "let its search finish one first"
            )
        self.reference = min(complete, key=lambda trial: bool(trial.origin))
        network = self.reference.architecture
        self.counted = tuple(
            name
            for name, figure in self.reference.evaluation.measurements.items()
            if figure.kind is Kind.COUNTED and self.count(name, network) == figure.value
        )

    def count(self, name: str, network: Architecture) -> float | None:
        """Return a counted metric of a network as the classification evaluator counts it."""
        subject = Subject(
            architecture=network,
            plan=self.record.spec.measurement,
            num_classes=self.record.classes,
            meter=self.meter,
        )
        return find_metric(name).measure(subject).value

    def takes(self, name: str) -> bool:
        """Return whether this name of an entry means something here."""
        spec = self.record.spec
        metric, _, part = name.rpartition("_")
        is_part = part in {"low", "high", "device", "plan", "method"}
        keys = {o.key for o in spec.objectives} | {*self.counted}
        is_choice = name.removeprefix("params.") in {choice.name for choice in self.space.choices}
        trained = name.partition(" after ")[0] in spec.trained_metrics
        return (
            name in ABOUT_ENTRIES
            or name in keys
            or (is_part and metric in keys)
            or is_choice
            or trained
        )

    def trial(self, entry: Entry, source: str, number: int, problems: list[str]) -> Trial | None:
        """Return the trial of an entry, or add its problems."""
        try:
            params = self._params(entry.values)
            network = decoded(self.space, params)
        except NasError as error:
            problems.append(str(error))
            return None
        digest = str(entry.values.get("digest", ""))
        if not network.digest.startswith(digest):
            shown = network.digest[: max(len(digest), 12)]
            problems.append(f"its digest is {digest}, but that of its network is {shown}")
        evaluation = Evaluation(
            measurements={
                **{figure.metric: figure for figure in self._counts(network, entry, problems)},
                **{figure.metric: figure for figure in self._figures(entry, problems)},
            },
            rungs=self._rungs(entry, problems),
        )
        if problems:
            return None
        return Trial(
            number=number,
            params=params,
            architecture=network,
            seed=trial_seed(self.record.spec.seed, network.digest),
            state=TrialState.COMPLETE,
            origin=_origin(entry.values, source),
            evaluation=evaluation,
        )

    def _params(self, values: Mapping[str, Any]) -> Params:
        given = values.get("architecture")
        if given is not None:
            architecture = self._architecture(given)
            return params_of_named(
                self.space, architecture, "the architecture", self.record.spec.space
            )
        names = {choice.name: choice for choice in self.space.choices}
        params = {name: values[name] for name in names if name in values}
        params |= {
            name.removeprefix("params."): value
            for name, value in values.items()
            if name.startswith("params.")
        }
        if not params:
            raise InvalidValueError(
                "no network: give its architecture, or a column for each choice of the space "
                f"({', '.join(names)})"
            )
        return checked_params(
            self.space,
            {
                name: _value(names[name], value) if name in names else value
                for name, value in params.items()
            },
        )

    def _architecture(self, given: Any) -> Architecture:
        if isinstance(given, str) and not given.startswith("{"):
            return named_architecture(given, self.store, self.folder)
        try:
            values = json.loads(given) if isinstance(given, str) else given
            return Architecture.from_dict(values.get("architecture", values))
        except MALFORMED as error:
            raise InvalidValueError(f"architecture: {error}") from error

    def _counts(
        self, network: Architecture, entry: Entry, problems: list[str]
    ) -> Iterator[Measurement]:
        """Yield the counted figures, which must be those of the entry if it has them."""
        for name in self.counted:
            figure = self.reference.evaluation.measurements[name]
            value = self.count(name, network)
            given = _number(entry.values, name, figure.unit, problems)
            if (
                given is not None
                and value is not None
                and not math.isclose(given, value, rel_tol=1e-9)
            ):
                problems.append(
                    f"{name} is {given:.12g}, but in this study the network has {value:.12g}"
                )
            yield replace(figure, value=value, ci_low=value, ci_high=value)

    def _figures(self, entry: Entry, problems: list[str]) -> Iterator[Measurement]:
        """Yield the figures of the measured objectives, with the conditions of the reference."""
        values = entry.values
        for key in [o.key for o in self.record.spec.measured_objectives]:
            if key in self.counted:
                continue
            figure = self.reference.evaluation.measurements[key]
            value, low, high = (
                _number(values, name, figure.unit, problems)
                for name in (key, f"{key}_low", f"{key}_high")
            )
            if key not in values:
                problems.append(f"no {key}, which is an objective of the study")
            if value is None:
                continue
            problems += self._condition_problems(figure, values)
            has_interval = low is not None and high is not None
            if value <= 0 and figure.unit in POSITIVE_UNITS:
                problems.append(f"{key} must be positive, not {value:g} {figure.unit}")
            if low is not None and high is not None and not low <= value <= high:
                problems.append(f"{key} must be within its interval, not {value:g}")
            yield replace(
                figure,
                value=value,
                ci_low=low if has_interval else None,
                ci_high=high if has_interval else None,
                samples=(),
                method=figure.method if figure.unit == "J" else "imported",
                status=Status.OK if has_interval else Status.NOISY,
                reason="" if has_interval else "it was imported without an interval",
                device=figure.device and replace(figure.device, identity="", details={}),
                details={},
            )

    def _condition_problems(self, figure: Measurement, values: Mapping[str, Any]) -> Iterator[str]:
        """Yield why a figure cannot be compared with the study's."""
        key, own = figure.metric, figure_conditions(figure)
        names = dict.fromkeys((f"{key}_device", f"{key}_plan", *own))
        stated = {name: values[name] for name in names if name in values}
        for name, value in stated.items():
            expected = own.get(name)
            equal = (
                same_class(expected, str(value)) if name == f"{key}_device" else expected == value
            )
            if not equal:
                yield (
                    f"{name} is {shortened(value)}, and the study's is {expected!r}; measure {key} "
                    "under the study's conditions"
                )
        missing = own.keys() - stated.keys() if own else {f"{key}_device"} - stated.keys()
        if missing and not self.confirmed.same_device:
            where = f" ({', '.join(own.values())})" if own else ""
            yield (
                f"no {', '.join(sorted(missing))}, so it is not known whether {key} was measured "
                f"as in the study{where}; if it was, say --same-device"
            )

    def _rungs(self, entry: Entry, problems: list[str]) -> tuple[Rung, ...]:
        """Return the rungs of the entry, or the last one if the others are not there."""
        spec, values = self.record.spec, entry.values
        if not spec.needs_training:
            return ()
        own, stated = recipe_digest(self.record), values.get("recipe")
        if stated is not None and stated != own:
            problems.append(
                f"recipe is {shortened(stated)}, and the study's is {own!r}: another training, "
                "data set or resolution; train the network in the study instead, with "
                f"{next_command('search', 'STUDY.yaml', '--first', 'NETWORK')}"
            )
        if stated is None and not self.confirmed.same_recipe:
            problems.append(
                f"no recipe, so it is not known whether it was trained by the study's, {own!r}, on "
                "the same data; if it was, say --same-recipe"
            )
        rungs = []
        *earlier, last = [rung.epochs for rung in self.reference.evaluation.rungs]
        for epochs in (*earlier, last):
            metrics = {}
            for name, trained in spec.trained_metrics.items():
                at_rung = f"{name} after {epochs:g} epochs"
                key = name if epochs == last and name in values else at_rung
                value = _number(values, key, trained.unit, problems)
                if value is not None:
                    metrics[name] = value
            problem = spec.rung_problem(metrics)
            if problem and (metrics or epochs == last):
                missing = f"; give {', '.join(o.metric for o in spec.trained_objectives)}"
                problems.append(problem + (missing if not metrics else ""))
            if metrics and not problem:
                rungs.append(Rung(epochs=epochs, metrics=metrics))
        return tuple(rungs) if len(rungs) > len(earlier) else tuple(rungs[-1:])


def _origin(values: Mapping[str, Any], source: str) -> str:
    """Return the file, and the record, study and trial that the entry names."""
    trial = ":".join(str(values[name]) for name in ("study", "trial") if name in values)
    return " ".join(part for part in (source, str(values.get("record", "")), trial) if part)


def _number(values: Mapping[str, Any], name: str, unit: str, problems: list[str]) -> float | None:
    """Return a figure in SI units, also of a text such as `4 ms`, or add its problem."""
    value = values.get(name)
    try:
        if isinstance(value, str):
            value = _parsed(value, unit)
        require_finite(optional=True, **{name: value})
    except ValueError as error:
        problems.append(str(error) if str(error).startswith(name) else f"{name}: {error}")
        return None
    return None if value is None else float(value)


def _parsed(text: str, unit: str) -> float:
    try:
        return float(text)
    except ValueError:
        return parse_quantity(text, unit)


def _value(choice: Choice, given: Any) -> Any:
    """Return the value of the choice that a text of a CSV file stands for, or the text."""
    if not isinstance(given, str):
        return given
    for value in choice.values:
        if given.lower() == str(value).lower():
            return value
    try:
        number = float(given)
    except ValueError:
        return given
    return next((v for v in choice.values if type(v) is not bool and v == number), given)
