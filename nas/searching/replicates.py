"""Trials' networks trained again with other seeds, by the search's own recipe and judged on its
validation images.

What is on a front was select_trials by one training each, so it looks better than it is; fresh seeds say
how much. Test images are not read. Every rung is recorded as it is reached, so the same call goes
on after any interruption.
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from nas.core.errors import InvalidValueError
from nas.core.pareto import front
from nas.core.seeds import replicate_seed
from nas.core.study import StudySpec
from nas.core.tasks import Event, Task, Trained
from nas.core.trial import Evaluation, Trial, TrialState
from nas.record import Store
from nas.searching.launch import Trainings, Workers, evaluators_of, open_trainings

Listener = Callable[[Trial, Task], None]
"""Told of every rung that was recorded: the trial, and the task as it stands now."""


def select_trials(trials: Sequence[Trial], numbers: Collection[int] | None = None) -> list[Trial]:
    """The trials that can be replicated: complete originals, all or those of these numbers.

    Raises `InvalidValueError` for a number of any other trial.
    """
    able = {
        trial.number: trial
        for trial in trials
        if trial.state is TrialState.COMPLETE
        and trial.duplicate_of is None
        and trial.evaluation.rungs
    }
    if numbers is None:
        return list(able.values())
    wrong = sorted(set(numbers) - set(able))
    if wrong:
        raise InvalidValueError(
            f"trial {', '.join(map(str, wrong))} cannot be trained again: only complete trials "
            "can, and of equal networks the first"
        )
    return [able[number] for number in sorted(set(numbers))]


def missing_trainings(
    spec: StudySpec, trials: Sequence[Trial], seeds: int
) -> list[tuple[Trial, Task]]:
    """What is missing of `seeds` replicates of each trial: first one of each, then the second ones,
    and so on.
    """
    found: list[tuple[Trial, Task]] = []
    for count in range(1, seeds + 1):
        for trial in trials:
            seed = replicate_seed(spec.seed, trial.architecture.digest, count)
            rungs = next((r.rungs for r in trial.evaluation.replicates if r.seed == seed), ())
            if len(rungs) < len(spec.rungs):
                found.append(
                    (
                        trial,
                        Task(
                            number=len(found),
                            architecture=trial.architecture,
                            seed=seed,
                            evaluation=Evaluation(rungs=rungs),
                        ),
                    )
                )
    return found


def final_replicates(spec: StudySpec, trials: Sequence[Trial]) -> list[tuple[Trial, Task]]:
    """What `budget.fresh` leaves to do after the search: as many trainings of the front's members
    as that share of all epochs is, those of the search being the rest; the lowest errors first, as
    most was select_trials by them; nothing where nothing is feasible.
    """
    found = front(trials, spec.objectives)
    members = select_trials(trials, found.members) if found.feasible and spec.needs_training else []
    members.sort(key=lambda trial: trial.evaluation.rungs[-1].error)
    epochs = sum(trial.evaluation.spent.epochs for trial in trials if trial.duplicate_of is None)
    if not members:
        return []
    each = members[0].evaluation.rungs[-1].epochs
    wanted = round(epochs / each * spec.fresh / (1 - spec.fresh))
    if not wanted:
        return []
    seeds = math.ceil(wanted / len(members))
    todo = missing_trainings(spec, members, seeds)
    return todo[: max(wanted - (len(members) * seeds - len(todo)), 0)]


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
    """What `missing_trainings` gave, ready to run; raises as `open_trainings`."""
    record = store.study(study)
    trials = [trial for trial, _ in todo]
    artifacts = Path(record.artifacts)

    def keep(task: Task, event: Event) -> Task | None:
        if not isinstance(event, Trained):
            return task
        trial = trials[task.number]
        store.add_replicate(study, trial.number, task.seed, event.rung, event.energy_j)
        task = replace(task, evaluation=task.evaluation.with_rung(event.rung))
        _forget(artifacts, task, over=len(task.evaluation.rungs) >= len(record.spec.rungs))
        listener(trial, task)
        return None if len(task.evaluation.rungs) >= len(record.spec.rungs) else task

    names = [f"trial {trial.number} with seed {task.seed}" for trial, task in todo]
    return open_trainings(
        store,
        study,
        [task for _, task in todo],
        names,
        keep,
        workers=workers,
        folder=folder,
        kind=kind,
        evaluator=evaluator or evaluators_of(record.spec).replicate,
    )


def _forget(artifacts: Path, task: Task, *, over: bool) -> None:
    """Delete the checkpoints that nobody needs any more: all but the newest, and that too in the
    end.
    """
    names = [rung.checkpoint for rung in task.evaluation.rungs if rung.checkpoint]
    for name in names if over else names[:-1]:
        (artifacts / name).unlink(missing_ok=True)
    if over and names:
        with suppress(OSError):  # what a killed writer left half written may still be in it
            (artifacts / names[-1]).parent.rmdir()
