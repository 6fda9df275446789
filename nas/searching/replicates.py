"""Replicates: networks of trials that are trained again with new seeds by the search's recipe.

They are validated on the search's validation images; test images are not read. The members of a
front were selected by one training each, therefore their figures look better than they are. The
figures of replicates have no such selection bias. Every rung is recorded when it is reached, and
the same call resumes after any interruption.
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from nas.core.errors import InvalidValueError
from nas.core.pareto import front
from nas.core.seeds import replicate_seed
from nas.core.study import StudySpec
from nas.core.tasks import Event, Task, Trained
from nas.core.trial import Evaluation, Replicate, Trial, TrialState
from nas.record import Store
from nas.searching.checkpoints import delete_passed
from nas.searching.launch import Trainings, Workers, open_trainings, recorded_evaluators

Listener = Callable[[Trial, Task], None]
"""Called after every recorded rung with the trial, and the task with its results so far."""


def select_trials(trials: Sequence[Trial], numbers: Collection[int] | None = None) -> list[Trial]:
    """Return the trials that can be replicated, all or those of these numbers.

    They are complete, trained, and no duplicates. Raises `InvalidValueError` for the number of any
    other trial.
    """
    trained = {
        trial.number: trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.duplicate_of is None
        and trial.evaluation.rungs
    }
    if numbers is None:
        return list(trained.values())
    wrong = sorted(set(numbers) - set(trained))
    if wrong:
        raise InvalidValueError(
            f"trial {', '.join(map(str, wrong))} cannot be trained again: only complete trials "
            "can, and of equal networks the first"
        )
    return [trained[number] for number in sorted(set(numbers))]


def missing_trainings(
    spec: StudySpec, trials: Sequence[Trial], seeds: int
) -> list[tuple[Trial, Task]]:
    """Return the trainings that are missing for `seeds` replicates of each trial.

    The first replicates of all trials come first, then the second ones, and so on.
    """
    missing: list[tuple[Trial, Task]] = []
    for count in range(1, seeds + 1):
        for trial in trials:
            seed = replicate_seed(spec.seed, trial.architecture.digest, count)
            rungs = next((r.rungs for r in trial.evaluation.replicates if r.seed == seed), ())
            if len(rungs) < len(spec.rungs):
                missing.append(
                    (
                        trial,
                        Task(
                            number=len(missing),
                            architecture=trial.architecture,
                            seed=seed,
                            evaluation=Evaluation(rungs=rungs),
                        ),
                    )
                )
    return missing


def final_replicates(spec: StudySpec, trials: Sequence[Trial]) -> list[tuple[Trial, Task]]:
    """Return the trainings of front members that `budget.fresh` reserves for new seeds.

    Their epochs are that share of all epochs, those of the search being the rest. Members that
    are best in the first trained objective come first, because selection biased them most. There
    are none if no trial is feasible. Finished ones count, also those of trials that are no members
    any more. Replicates that were copied with their trials are kept, and are none of the study's
    own trainings, like the trials themselves.
    """
    final_front = front(trials, spec.objectives)
    if not final_front.feasible or not spec.needs_training:
        return []
    members = select_trials(trials, final_front.members)
    objective = spec.trained_objectives[0]
    members.sort(key=lambda trial: objective.loss(trial.evaluation.value(objective.key) or 0.0))
    originals = [trial for trial in trials if trial.duplicate_of is None]
    epochs = sum(trial.evaluation.spent.epochs for trial in originals if not trial.origin)
    if not members:
        return []
    epochs_per_training = members[0].evaluation.rungs[-1].epochs
    count = round(epochs / epochs_per_training * spec.fresh / (1 - spec.fresh))
    if not count:
        return []
    num_copied = sum(len(_finished(spec, trial, copied=True)) for trial in members)
    num_done = sum(len(_finished(spec, trial, copied=False)) for trial in originals)
    missing = missing_trainings(spec, members, math.ceil((count + num_copied) / len(members)))
    return missing[: max(count - num_done, 0)]


def _finished(spec: StudySpec, trial: Trial, *, copied: bool) -> list[Replicate]:
    """Return the finished replicates that were copied with the trial, or those of the study."""
    copied_at = trial.finished_at if trial.origin else None
    return [
        each
        for each in trial.evaluation.replicates
        if len(each.rungs) >= len(spec.rungs)
        and copied == (copied_at is not None and each.rungs[-1].finished_at <= copied_at)
    ]


def open_replicates(
    store: Store,
    study: str,
    todo: Sequence[tuple[Trial, Task]],
    *,
    workers: Workers,
    folder: Path,
    listener: Listener = lambda *_: None,
    kind: str | None = None,
    evaluator: str | None = None,
) -> AbstractContextManager[Trainings[Task]]:
    """Prepare the trainings that `missing_trainings` returned. Raises as `open_trainings`."""
    study_record = store.study(study)
    trials = [trial for trial, _ in todo]
    artifacts = Path(study_record.artifacts)

    def record(task: Task, event: Event) -> Task | None:
        if not isinstance(event, Trained):
            return task
        trial = trials[task.number]
        store.add_replicate(study, trial.number, task.seed, event.rung, event.energy_j)
        task = replace(task, evaluation=task.evaluation.with_rung(event.rung))
        finished = len(task.evaluation.rungs) >= len(study_record.spec.rungs)
        delete_passed(artifacts, task.evaluation.rungs, finished=finished)
        listener(trial, task)
        return None if finished else task

    names = [f"trial {trial.number} with seed {task.seed}" for trial, task in todo]
    return open_trainings(
        store,
        study,
        [task for _, task in todo],
        names,
        record,
        workers=workers,
        folder=folder,
        kind=kind,
        evaluator=evaluator or recorded_evaluators(study_record).replicate,
    )
