"""Baselines: networks beside a search, measured and trained exactly as its trials are.

They run before the search, by its evaluator, under its plan, with all rungs and with the seed that
a trial of the same network would have. No limit and no rule stops them, the sampler does not learn
them, and they use none of the study's budgets. Figures and rungs are recorded when they are
reached, and the next call tries again what failed.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from nas.analysis.baselines import is_finished
from nas.core.architecture import Architecture
from nas.core.foreign import ForeignNetwork
from nas.core.seeds import trial_seed
from nas.core.study import StudySpec
from nas.core.tasks import Result, Task, Trained
from nas.core.trial import Baseline
from nas.record import Store
from nas.searching.checkpoints import delete_passed
from nas.searching.launch import Search, Trainings
from nas.searching.task_list import TaskList

Networks = Mapping[str, Architecture | ForeignNetwork]
"""The networks of baselines by their names."""
Listener = Callable[[Baseline], None]
"""Called with each baseline after all its figures are recorded."""


def open_baselines(
    search: Search, store: Store, networks: Networks, listener: Listener
) -> Trainings[Task] | None:
    """Return the work on the baselines that are not finished; None if there are none.

    Raises `StudyConflictError` if a name stood for another network before.
    """
    spec = search.engine.spec
    for name, network in networks.items():
        store.add_baseline(spec.name, name, network.digest)
    artifacts, todo = Path(search.context.artifacts), []
    for each in store.baselines(spec.name):
        if is_finished(spec, each):  # a killed call may have left its checkpoints
            delete_passed(artifacts, each.evaluation.rungs, finished=True)
        else:
            todo.append(each)
    if not todo:
        return None
    task_list: TaskList[Task]

    def record(task: Task, event: Result) -> Task | None:
        if isinstance(event, Trained) and (problem := spec.rung_problem(event.rung.metrics)):
            task_list.fail(task.number, problem)
            return None
        store.add_baseline_event(spec.name, todo[task.number].name, event)
        evaluation = task.evaluation
        if isinstance(event, Trained):
            evaluation = evaluation.with_rung(event.rung)
        else:
            evaluation = evaluation.with_measurements(event.measurements, event.seconds)
            if problem := "; ".join(each.problem for each in event.measurements if each.problem):
                task_list.fail(task.number, problem)
                return None
        task = replace(task, evaluation=evaluation)
        baseline = replace(todo[task.number], evaluation=evaluation)
        finished = is_finished(spec, baseline)
        delete_passed(artifacts, evaluation.rungs, finished=finished)
        if not finished:
            return task
        listener(baseline)
        return None

    tasks = [_task(spec, number, each, networks) for number, each in enumerate(todo)]
    task_list = TaskList(spec=spec, tasks=tasks, record=record)
    return Trainings(
        task_list=task_list,
        names=[each.name for each in todo],
        context=search.context,
        workers=search.workers,
    )


def _task(spec: StudySpec, number: int, baseline: Baseline, networks: Networks) -> Task:
    """Return the work that is left of a baseline; figures without a value are taken again."""
    return Task(
        number=number,
        architecture=networks[baseline.name],
        seed=trial_seed(spec.seed, baseline.digest),
        evaluation=baseline.evaluation.usable(),
        folder=f"{spec.name}/baselines/{baseline.digest[:16]}",
    )
