"""The end of a search: the members of the front certified together, where the study asks for it.

The search compares screened figures, each taken at its own time. Here the members are measured
again in one session, in turns with a pinned reference network, on the workers' machine. The figures
are a metric of their own: nothing that the search decided changes, a sampler is rebuilt from what
it was told, and the front shows both.
"""

from collections.abc import Sequence
from dataclasses import replace

from nas.core.tasks import CertifyTask, Event, Measured
from nas.core.trial import Trial
from nas.searching.engine import Engine
from nas.searching.task_list import TaskList


def uncertified(engine: Engine) -> list[Trial]:
    """The members that are to be certified together: all, unless the study does not ask for it,
    nothing is feasible, or the same ones were certified in one session already.
    """
    front = engine.state.front
    members = engine.state.members()
    if not engine.spec.certifies or not front.feasible:
        return []
    sessions = {trial.evaluation.certified_session for trial in members}
    return members if len(sessions) > 1 or None in sessions else []


def certification(engine: Engine, members: Sequence[Trial]) -> TaskList[CertifyTask]:
    """What workers do to certify these members; what they find is recorded at once."""

    def keep(task: CertifyTask, event: Event) -> CertifyTask | None:
        if isinstance(event, Measured):
            each = len(event.measurements) // len(members)
            of_each = zip(*[iter(event.measurements)] * each, strict=True)
            share = replace(
                event,
                seconds=event.seconds / len(members),
                energy_j=None if event.energy_j is None else event.energy_j / len(members),
            )
            engine.add_figures(
                {
                    trial.number: replace(share, measurements=figures)
                    for trial, figures in zip(members, of_each, strict=True)
                }
            )
            return None
        return task

    task = CertifyTask(number=0, architectures=tuple(trial.architecture for trial in members))
    return TaskList(spec=engine.spec, tasks=[task], record=keep)
