"""What the networks of a space cost before anything is trained or recorded: random members, and the
published VoVNets that the space holds. So a user sees whether limits make sense.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.complexity import stage_sizes
from nas.core.errors import InvalidValueError, TrialFailedError
from nas.core.measurement import Measurement
from nas.core.published import PUBLISHED
from nas.core.search_space import SearchSpace
from nas.core.study import Budget, Objective, StoppingSpec, StudySpec, rungs_at
from nas.core.tasks import Measured, Task
from nas.core.trial import Evaluation
from nas.searching.evaluators import StudyContext

MEMBERS = 64
TRIES = 100
"""Random draws for each member that is wanted, after which a space is taken to have no more."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network of the space. `name` is a published one's, empty for random ones; `failure` why it
    lacks figures.
    """

    name: str
    architecture: Architecture
    evaluation: Evaluation = field(default_factory=Evaluation)
    failure: str = ""

    def violation(self, objectives: Sequence[Objective]) -> float | None:
        """Sum of the violated limits as shares of them, None where a figure is missing."""
        values = [(o, self.evaluation.value(o.metric)) for o in objectives]
        return (
            None
            if any(value is None for _, value in values)
            else sum(o.violation(value) for o, value in values if value is not None)
        )


def members(space: SearchSpace, count: int, seed: int) -> list[Member]:
    """Up to `count` different random networks, then the published ones, each under one name."""
    chance, found = random.Random(seed), dict[str, Member]()
    for _ in range(TRIES * count):
        drawn = _drawn(space, chance)
        found.setdefault(drawn.digest, Member(name="", architecture=drawn))
        if len(found) == min(count, space.cardinality):
            break
    known = {
        network.digest: Member(name=name, architecture=network)
        for name, network in reversed(PUBLISHED.items())
        if _holds(space, network)
    }
    return [*found.values(), *reversed(known.values())]


def check_sizes(space: SearchSpace, sizes: Mapping[str, int], seed: int) -> None:
    """Raise `InvalidValueError` for an image size in pixels, each under its name, that none of so
    many random networks takes.
    """
    for what, pixels in sizes.items():
        chance = random.Random(seed)
        problems = (_size_problem(_drawn(space, chance), pixels) for _ in range(MEMBERS))
        first = next(problems)
        if first and all(problems):
            raise InvalidValueError(
                f"{what}: no network of the space takes {pixels} pixels: {first}"
            )


def costs_only(spec: StudySpec) -> StudySpec:
    """The study without what only training gives."""
    costs = tuple(o for o in spec.objectives if o.metric != "error")
    return replace(
        spec,
        objectives=costs or (Objective(metric="parameters"), Objective(metric="macs")),
        rungs=rungs_at(1.0),
        stopping=StoppingSpec(),
        budget=Budget(),
    )


def profile(
    spec: StudySpec,
    wanted: Sequence[Member],
    folder: Path,
    on_wait: Callable[[Measurement], object] = lambda _: None,
) -> Iterator[Member]:
    """These members with what they cost on this machine, in their order. `folder` is the study
    file's; `on_wait` is called with each figure that is tried again because others use the
    device.

    Raises `UnavailableError` where this machine cannot measure an objective.
    """
    from nas.searching.evaluators.classification.evaluator import (
        CLASSES_WITHOUT_DATA,
        Evaluator,
    )

    context = StudyContext(spec=costs_only(spec), artifacts="", folder=str(folder))
    prepared = replace(Evaluator.prepare(context), classes=classes_of(spec) or CLASSES_WITHOUT_DATA)
    evaluator = Evaluator(replace(context, preparation=prepared))
    evaluator.on_wait = on_wait
    for number, member in enumerate(wanted):
        known = Evaluation()
        try:
            for event in evaluator.steps(
                Task(number=number, architecture=member.architecture, seed=spec.seed)
            ):
                if isinstance(event, Measured):
                    known = known.with_measurements(event.measurements, event.seconds)
        except TrialFailedError as error:
            yield replace(member, evaluation=known, failure=str(error))
            continue
        reasons = [
            f"{m.metric} is {m.status}: {m.reason}"
            for m in known.measurements.values()
            if m.value is None
        ]
        yield replace(member, evaluation=known, failure="; ".join(reasons))


def classes_of(spec: StudySpec) -> tuple[str, ...]:
    """The classes of an image folder, which is on this machine already; none of other data, which
    may not be.
    """
    if spec.data.folder is None:
        return ()
    from nas.data import load

    return load(spec.data).classes


def space_of(spec: StudySpec) -> SearchSpace:
    """The study's space."""
    found: SearchSpace = plugins.load("nas.spaces", spec.space)
    return found


def _drawn(space: SearchSpace, chance: random.Random) -> Architecture:
    return space.decode({choice.name: chance.choice(choice.values) for choice in space.choices})


def _size_problem(network: Architecture, pixels: int) -> str:
    """Why it takes no images of so many pixels; nothing where it does."""
    try:
        stage_sizes(network, (pixels, pixels))
    except InvalidValueError as error:
        return str(error)
    return ""


def _holds(space: SearchSpace, network: Architecture) -> bool:
    try:
        return space.decode(space.encode(network)).digest == network.digest
    except InvalidValueError:
        return False
