"""Copy a study under other settings, with the trials whose evaluation is still valid.

Other limits, references, samplers, rules and budgets, and another space that has the same network,
leave an evaluation valid. Under other settings of training or measuring, the figures that do not
depend on them are valid. A network that needs others is a candidate, unless it is over a limit by
the valid ones. Copied trials teach the sampler of the new study and count in none of its budgets.
Baselines that the new study has too bring their valid figures. Everything is one transaction after
the checkpoints are linked, so that a killed call can be repeated.
"""

import filecmp
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nas.analysis.baselines import is_finished
from nas.core import plugins
from nas.core.errors import InvalidValueError, NasError
from nas.core.foreign import is_foreign
from nas.core.measurement import Kind
from nas.core.pareto import front
from nas.core.search_space import SearchSpace, decoded
from nas.core.seeds import trial_seed
from nas.core.study import StudySpec
from nas.core.tasks import Measured, Trained
from nas.core.trial import Baseline, Evaluation, Rung, Trial, TrialState
from nas.record import ArtifactKind, Store, StudyRecord
from nas.record.conditions import RECIPE_KEYS
from nas.record.differences import differences
from nas.searching.identity import Code, identity_of
from nas.searching.managing import link_file
from nas.searching.networks import named_architecture
from nas.searching.start_networks import encoded
from nas.searching.state import limit_reason
from nas.searching.study_name import require_usable_name

MAX_NAMED = 8
"""A message names at most this many networks."""
EVALUATION_KEYS = (*RECIPE_KEYS, "data", "measurement")
"""Keys of a study on which figures depend. The seed chooses the validation images."""
TRAINING_SETTINGS = (
    *("seed", "rungs", "training", "trained"),
    *("data.validation_images", "data.train_images"),
)
"""Settings on which only trained figures depend."""
CANDIDATE = "a candidate: the old limits or the old sampler stopped it before training"
NEEDS = "a candidate: no figure under the new settings for"
"""Why a trial is left out that the new study may propose."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What a copy took along: the number of copied trials, the names of the baselines with figures,
    and the other trials by the reason.

    `changed` are the settings on which figures depend, with their old and new values.
    """

    trials: int
    baselines: Sequence[str] = ()
    left_out: Mapping[str, Sequence[int]] = field(default_factory=dict)
    changed: Sequence[str] = ()

    @property
    def candidates(self) -> list[int]:
        """Numbers of the trials that the new study may propose."""
        reasons = [each for each in self.left_out if each.startswith((CANDIDATE, NEEDS))]
        return sorted(number for reason in reasons for number in self.left_out[reason])


@dataclass(frozen=True, kw_only=True)
class _Validity:
    """Which figures of the recorded study are valid in the new one: those of its trainings, those
    that were measured, and those that were counted. `changed` are the settings that differ.
    """

    changed: Sequence[str]
    trained: bool
    measured: bool
    counted: bool

    def part(self, evaluation: Evaluation) -> Evaluation:
        """Return the valid figures of an evaluation."""
        figures = {
            name: figure
            for name, figure in evaluation.measurements.items()
            if (self.counted if figure.kind is Kind.COUNTED else self.measured)
        }
        if not self.trained:
            evaluation = replace(evaluation, rungs=(), replicates=())
        return replace(evaluation, measurements=figures)


def copy_study(store: Store, source: str, spec: StudySpec, folder: Path, now: datetime) -> Copied:
    """Make the study `spec` from a recorded one, with the trials whose evaluation is valid in it.

    `folder` has the modules of the new study. Raises `StudyConflictError` if there is a study of
    this name or a process drives one, and `InvalidValueError` if no trial comes along because of
    other settings.
    """
    record = store.study(source)
    require_usable_name(spec.name)
    plugins.add_import_folder(folder)
    space: SearchSpace = plugins.load("nas.spaces", spec.space)
    identity = identity_of(spec, space, folder)
    valid = _validity(store, record, spec, identity["code"])
    identity["is_prepared"] = record.is_prepared and not valid.changed
    identity["files"] = (record.identity or {}).get("files", {})
    identity["folder"] = str(folder.resolve())
    if spec.space == record.spec.space:
        identity["first"] = record.start_networks
    with store.claim(spec.name):
        store.require_new(spec.name)
        left_out: dict[str, list[int]] = defaultdict(list)
        copies: dict[int, Trial] = {}
        for trial in store.trials(source):
            if trial.duplicate_of is not None:
                continue
            judged = _judged(trial, spec, space, valid)
            if isinstance(judged, Trial):
                copies[trial.number] = replace(
                    judged,
                    number=len(copies),
                    origin=trial.origin or f"{source}:{trial.number}",
                    started_at=now,
                    finished_at=now,
                    evaluation=_with_own_files(record, spec.name, judged.evaluation),
                )
            else:
                left_out[judged].append(trial.number)
        if valid.changed and not copies:
            raise _nothing_valid(store, record, valid.changed)
        baselines = _baselines(store, record, spec, folder, valid)
        with store.transaction():
            _write(store, record, spec, identity, copies)
            _write_baselines(store, spec.name, baselines)
    return Copied(
        trials=len(copies),
        baselines=[each.name for each in baselines],
        left_out=left_out,
        changed=valid.changed,
    )


def _validity(store: Store, record: StudyRecord, spec: StudySpec, code: Code) -> _Validity:
    """Return which figures of the recorded study are valid under the settings of the new one.

    Raises `InvalidValueError` if none are.
    """
    before, now = (_evaluation_settings(each) for each in (record.spec, spec))
    changes = list(differences(before, now))
    changed = [f"{path} {old}, now {new}" for path, old, new in changes]
    paths = [path for path, _, _ in changes]
    measuring = [path for path in paths if path.startswith("measurement.")]
    training = [path for path in paths if _is_of(path, TRAINING_SETTINGS)]
    recorded: Code = (record.identity or {}).get("code", {})
    other_code = [
        f"other code of {label}"
        for label, digests in code.items()
        if label != "sampler" and digests and recorded.get(label, digests) != digests
    ]
    if other_code or len(measuring) + len(training) < len(paths):
        raise _nothing_valid(store, record, [*changed, *other_code])
    return _Validity(
        changed=changed,
        trained=not training,
        measured=not measuring,
        counted="measurement.image_size" not in measuring,
    )


def _is_of(path: str, settings: Sequence[str]) -> bool:
    """Return whether a setting is one of these, or a part of one."""
    return any(path == each or path.startswith(f"{each}.") for each in settings)


def _nothing_valid(store: Store, record: StudyRecord, changed: Sequence[str]) -> InvalidValueError:
    """Return the error for a copy without trials, with networks to begin a new study with."""
    front_now = store.newest_front(record.name)
    members = front_now.members if front_now else ()
    names = ", ".join(f"'{record.name}:{number}'" for number in members[:MAX_NAMED])
    hint = f"; begin a new study with its best networks, first: [{names}]" if names else ""
    return InvalidValueError(
        f"no evaluation of {record.name} is valid under other settings of training or measuring "
        f"({'; '.join(changed)}){hint}"
    )


def _evaluation_settings(spec: StudySpec) -> dict[str, Any]:
    values = spec.to_dict()
    settings: dict[str, Any] = {key: values[key] for key in EVALUATION_KEYS}
    for key in ("busy", "busy_wait_s"):
        del settings["measurement"][key]
    return settings


def _judged(trial: Trial, spec: StudySpec, space: SearchSpace, valid: _Validity) -> Trial | str:
    """Return the trial as it would have ended in the new study, or why it is left out."""
    if trial.state in {TrialState.RUNNING, TrialState.FAILED}:
        return f"{'unfinished' if trial.state is TrialState.RUNNING else 'failed'} there"
    try:
        params = encoded(space, trial.architecture)
    except InvalidValueError:
        return f"not in the space {spec.space}"
    evaluation = valid.part(trial.evaluation)
    missing = [o.key for o in spec.objectives if evaluation.value(o.key) is None]
    state, reason = trial.state, trial.reason
    if trial.skipped or (missing and valid.changed):
        state, reason = TrialState.STOPPED, _violated(evaluation, spec)
        if not reason:
            return CANDIDATE if trial.skipped else f"{NEEDS} {', '.join(missing)}"
        evaluation = replace(evaluation, rungs=(), replicates=())
    if state is TrialState.COMPLETE and missing:
        return f"no figure for {', '.join(missing)}"
    architecture = decoded(space, params)
    return replace(
        trial,
        params=params,
        architecture=architecture,
        seed=trial_seed(spec.seed, architecture.digest),
        evaluation=evaluation,
        state=state,
        reason=reason,
        worker="",
        sampler_state={},
    )


def _violated(evaluation: Evaluation, spec: StudySpec) -> str:
    """Return which limit the figures are over, or an empty string."""
    for objective in spec.measured_objectives:
        figure = evaluation.measurements.get(objective.key)
        if figure is not None and figure.value is not None and objective.violation(figure.value):
            return limit_reason(objective, figure.value, figure.unit)
    return ""


def _baselines(
    store: Store, record: StudyRecord, spec: StudySpec, folder: Path, valid: _Validity
) -> list[Baseline]:
    """Return the baselines that have valid figures, with these.

    Their rungs come along if all are there, because their checkpoints stay behind. A name that
    stands for another network, or for none, is left out.
    """
    kept = []
    for recorded in store.baselines(record.name, spec.baselines):
        evaluation = valid.part(recorded.evaluation)
        figures = evaluation.usable().measurements
        rungs = (
            evaluation.rungs if is_finished(spec, replace(recorded, evaluation=evaluation)) else ()
        )
        evaluation = replace(
            evaluation,
            measurements=figures,
            rungs=tuple(replace(rung, checkpoint=None) for rung in rungs),
        )
        if figures and _is_same_network(store, recorded, folder):
            kept.append(replace(recorded, evaluation=evaluation))
    return kept


def _is_same_network(store: Store, baseline: Baseline, folder: Path) -> bool:
    """Return whether the baseline's name still stands for its network."""
    try:
        return is_foreign(baseline.name) or (
            named_architecture(baseline.name, store, folder).digest == baseline.digest
        )
    except NasError:
        return False


def _with_own_files(record: StudyRecord, study: str, evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with checkpoints in the folder of the new study.

    Those that exist are linked there, and the others are left out.
    """
    artifacts = Path(record.artifacts)

    def own(rung: Rung) -> Rung:
        if rung.checkpoint is None:
            return rung
        inside = Path(rung.checkpoint).relative_to(record.name)
        kept, copy = artifacts / rung.checkpoint, artifacts / study / inside
        if not kept.is_file():
            return replace(rung, checkpoint=None)
        if not copy.exists():
            link_file(kept, copy)
        elif not filecmp.cmp(kept, copy, shallow=False):
            raise NasError(f"{copy} is another file; choose another name, or remove it")
        return replace(rung, checkpoint=f"{study}/{inside.as_posix()}")

    return replace(
        evaluation,
        rungs=tuple(map(own, evaluation.rungs)),
        replicates=tuple(
            replace(each, rungs=tuple(replace(rung, checkpoint=None) for rung in each.rungs))
            for each in evaluation.replicates
        ),
    )


def _write(
    store: Store,
    record: StudyRecord,
    spec: StudySpec,
    identity: Mapping[str, Any],
    copies: Mapping[int, Trial],
) -> None:
    """Record the new study with its trials, by their old numbers."""
    store.create_study(
        spec,
        dataset=record.dataset,
        classes=record.classes,
        artifacts=record.artifacts,
        identity=identity,
    )
    store.set_numerics(spec.name, record.numerics)
    for trial in copies.values():
        store.add_trial(spec.name, trial)
        for each in trial.evaluation.replicates:
            for rung in each.rungs:
                store.add_replicate(spec.name, trial.number, each.seed, rung)
    numbers = {
        rung.checkpoint: trial.number
        for trial in copies.values()
        for rung in trial.evaluation.rungs
    }
    for artifact in store.artifacts(record.name, kind=ArtifactKind.CHECKPOINT):
        inside = Path(artifact.path).relative_to(record.name).as_posix()
        path = f"{spec.name}/{inside}"
        if path in numbers:
            store.add_artifact(spec.name, replace(artifact, path=path, trial=numbers[path]))
    new_front = front(list(copies.values()), spec.objectives)
    if new_front.members:
        store.add_front(spec.name, new_front)


def _write_baselines(store: Store, study: str, baselines: Sequence[Baseline]) -> None:
    """Record the baselines of the new study. They took no time there."""
    for each in baselines:
        measured = Measured(measurements=tuple(each.evaluation.measurements.values()), seconds=0.0)
        store.add_baseline(study, each.name, each.digest)
        store.add_baseline_event(study, each.name, measured)
        for rung in each.evaluation.rungs:
            store.add_baseline_event(study, each.name, Trained(rung=rung))
