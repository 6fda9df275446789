"""Certification at the end of a search, if the study asks for it.

The search compares screened figures, each taken at its own time. Here the members of the front are
measured again in one session, interleaved with a pinned reference network, on the workers' machine.
The certified figures are metrics of their own: they change no decision of the search and nothing
that the sampler learned, and the front shows both.
"""

from collections.abc import Sequence
from dataclasses import replace

from nas.core.tasks import CertifyTask, Event, Measured
from nas.core.trial import Trial
from nas.searching.engine import Engine
from nas.searching.task_list import TaskList


def uncertified(engine: Engine) -> list[Trial]:
    """Return the members of the front that must be certified: all or none.

    None are returned if the study does not certify, if no trial is feasible, or if these members
    were certified in one session already.
    """
    front = engine.state.front
    members = engine.state.members()
    if not engine.spec.certifies or not front.feasible:
        return []
    sessions = {trial.evaluation.certified_session for trial in members}
    return members if len(sessions) > 1 or None in sessions else []


def certification(engine: Engine, members: Sequence[Trial]) -> TaskList[CertifyTask]:
    """Return the task that certifies these members. All figures are recorded at once."""

    def record(task: CertifyTask, event: Event) -> CertifyTask | None:
        if not isinstance(event, Measured):
            return task
        share = replace(
            event,
            seconds=event.seconds / len(members),
            energy_j=None if event.energy_j is None else event.energy_j / len(members),
        )
        count = len(event.measurements) // len(members)
        engine.add_figures(
            {
                trial.number: replace(
                    share, measurements=event.measurements[index * count : (index + 1) * count]
                )
                for index, trial in enumerate(members)
            }
        )
        return None

    task = CertifyTask(number=0, architectures=tuple(trial.architecture for trial in members))
    return TaskList(spec=engine.spec, tasks=[task], record=record)
