"""Costs of networks of a space before anything is trained or recorded.

The networks are random ones and the published VoVNets that the space contains. Their costs show
whether the limits of a study make sense.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from nas.core import plugins
from nas.core.architecture import Architecture
from nas.core.complexity import stage_sizes
from nas.core.errors import InvalidValueError, NasError, TrialFailedError, described
from nas.core.measurement import Busy, Measurement, MeasurementPlan
from nas.core.preparation import Preparation
from nas.core.published import PUBLISHED
from nas.core.search_space import SearchSpace, decoded
from nas.core.study import Budget, Objective, StoppingSpec, StudySpec, rungs_at
from nas.core.tasks import Measured, Task
from nas.core.trial import Evaluation
from nas.searching.evaluators import StudyContext, built_by, prepared_by

if TYPE_CHECKING:
    from nas.searching.evaluators.classification.evaluator import Evaluator

NUM_RANDOM_NETWORKS = 64
"""Number of random networks that are tried for a fitting image size, and whose counts are shown."""
NUM_MEASURED_NETWORKS = 16
"""Number of random networks whose costs are shown if one of them is measured."""
MIN_REDUCED_SIDE = 8
"""Smallest side of reduced images, in pixels."""
NUM_SIZE_NETWORKS = 8
"""Number of random networks that must take reduced images."""
DRAWS_PER_NETWORK = 100
"""Number of random draws per network after which the space is taken to have no more networks."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A network of the space.

    `name` is empty for random networks. `failure` says why figures are missing. Its evaluation has
    the seconds of measuring.
    """

    name: str
    architecture: Architecture
    evaluation: Evaluation = field(default_factory=Evaluation)
    failure: str = ""
    building_s: float = 0.0
    """Seconds of building it for the runtime, and of whatever else was not measuring or waiting."""

    def violation(self, objectives: Sequence[Objective]) -> float | None:
        """Return the sum of the violations of limits, each a share of its limit.

        Returns None if a figure is missing.
        """
        total = 0.0
        for objective in objectives:
            value = self.evaluation.value(objective.key)
            if value is None:
                return None
            total += objective.violation(value)
        return total


def members(space: SearchSpace, count: int, seed: int) -> list[Member]:
    """Return up to `count` different random networks, then the published ones, each under one
    name.
    """
    published = {
        network.digest: Member(name=name, architecture=network)
        for name, network in reversed(PUBLISHED.items())
        if _contains(space, network)
    }
    return [*random_members(space, count, seed), *reversed(published.values())]


def random_members(space: SearchSpace, count: int, seed: int) -> list[Member]:
    """Return up to `count` different random networks."""
    generator, drawn = random.Random(seed), dict[str, Member]()
    for _ in range(DRAWS_PER_NETWORK * count):
        network = _draw(space, generator)
        drawn.setdefault(network.digest, Member(name="", architecture=network))
        if len(drawn) == min(count, space.cardinality):
            break
    return list(drawn.values())


def check_sizes(space: SearchSpace, sizes: Mapping[str, int], seed: int) -> None:
    """Raise `InvalidValueError` for an image size that none of 64 random networks can take.

    `sizes` are in pixels, by the names of the images in the error.
    """
    for name, pixels in sizes.items():
        generator = random.Random(seed)
        draws = (_draw(space, generator) for _ in range(NUM_RANDOM_NETWORKS))
        problems = (size_problem(network, pixels) for network in draws)
        first = next(problems)
        if first and all(problems):
            raise InvalidValueError(
                f"{name}: no network of the space takes {pixels} pixels: {first}"
            )


def reduced_side(space: SearchSpace, side: int, share: float = 0.5) -> int:
    """Return this share of an image's side in pixels, or the next larger even number that eight
    random networks take.

    It is at least `MIN_REDUCED_SIDE`, and at most the side itself.
    """
    networks = [each.architecture for each in random_members(space, NUM_SIZE_NETWORKS, 0)]
    for reduced in range(max(2 * ceil(share * side / 2), MIN_REDUCED_SIDE), side, 2):
        if not any(size_problem(network, reduced) for network in networks):
            return reduced
    return side


def costs_only(spec: StudySpec) -> StudySpec:
    """Return the study without trained objectives, and without budget and rungs."""
    return replace(
        spec,
        objectives=spec.measured_objectives
        or (Objective(metric="parameters"), Objective(metric="macs")),
        rungs=rungs_at(1.0),
        stopping=StoppingSpec(),
        budget=Budget(),
    )


def profile(
    spec: StudySpec,
    wanted: Sequence[Member],
    folder: Path,
    on_wait: Callable[[Measurement], object] = lambda _: None,
    preparation: Preparation | None = None,
) -> Iterator[Member]:
    """Yield these members with their costs on this machine, in their order.

    `folder` is that of the study file. `preparation` is that of the study, if there is one. While
    others use the device, all networks together wait for at most `measurement.busy_wait_s`; after
    that contended figures are noisy. `on_wait` is called with each figure that is measured again.
    Raises `UnavailableError` if this machine cannot measure an objective.
    """
    from nas.searching.evaluators.classification.evaluator import (
        CLASSES_WITHOUT_DATA,
        Evaluator,
    )

    kind = evaluator_of(spec) or Evaluator
    context = StudyContext(spec=costs_only(spec), artifacts="", folder=str(folder))
    if preparation is None:
        classes = classes_of(spec) or CLASSES_WITHOUT_DATA
        preparation = replace(prepared_by(kind, context), classes=classes)
    plan = replace(spec.measurement, runtime=preparation.runtime, busy=Busy.NOISY)
    context = replace(context, spec=replace(context.spec, measurement=plan))
    with closing(built_by(kind, replace(context, preparation=preparation))) as evaluator:
        evaluator.on_wait = on_wait
        yield from _costs(evaluator, plan, wanted, spec.seed)


def _costs(
    evaluator: "Evaluator", plan: MeasurementPlan, wanted: Sequence[Member], seed: int
) -> Iterator[Member]:
    """Yield these members with their costs. All networks together wait for `plan.busy_wait_s`."""
    remaining_s = plan.busy_wait_s
    for number, member in enumerate(wanted):
        evaluation, waiting_s, started_s = Evaluation(), 0.0, time.perf_counter()
        evaluator.waiting = replace(plan, busy_wait_s=max(remaining_s, 0.0))
        try:
            for event in evaluator.steps(
                Task(number=number, architecture=member.architecture, seed=seed)
            ):
                if isinstance(event, Measured):
                    evaluation = evaluation.with_measurements(event.measurements, event.seconds)
                    remaining_s -= event.waiting_s
                    waiting_s += event.waiting_s
        except TrialFailedError as error:
            yield replace(member, evaluation=evaluation, failure=str(error))
            continue
        except NasError:
            raise
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything
            yield replace(member, evaluation=evaluation, failure=described(error))
            continue
        problems = [figure.problem for figure in evaluation.measurements.values() if figure.problem]
        building_s = time.perf_counter() - started_s - evaluation.measure_s - waiting_s
        yield replace(
            member,
            evaluation=evaluation,
            failure="; ".join(problems),
            building_s=max(building_s, 0.0),
        )


def classes_of(spec: StudySpec) -> tuple[str, ...]:
    """Return the classes of an image folder. Other data may not be on this machine, and has none
    here.
    """
    if spec.data.folder is None:
        return ()
    from nas.searching.evaluators.classification.evaluator import Evaluator

    return (evaluator_of(spec) or Evaluator).classes_of(spec.data)


def evaluator_of(spec: StudySpec) -> "type[Evaluator] | None":
    """Return the class that evaluates the study's trials, None if it is not derived from that of
    classification.
    """
    from nas.searching.evaluators.classification.evaluator import Evaluator

    kind = plugins.load("evaluators", plugins.load("nas.evaluators", spec.evaluator).search)
    return kind if isinstance(kind, type) and issubclass(kind, Evaluator) else None


def space_of(spec: StudySpec) -> SearchSpace:
    """Return the study's space."""
    space: SearchSpace = plugins.load("nas.spaces", spec.space)
    return space


def _draw(space: SearchSpace, generator: random.Random) -> Architecture:
    params = {choice.name: generator.choice(choice.values) for choice in space.choices}
    return decoded(space, params)


def size_problem(network: Architecture, pixels: int) -> str:
    """Return why the network cannot take images of this size, or an empty string."""
    try:
        stage_sizes(network, (pixels, pixels))
    except InvalidValueError as error:
        return str(error)
    return ""


def _contains(space: SearchSpace, network: Architecture) -> bool:
    try:
        return space.decode(space.encode(network)).digest == network.digest
    except Exception:  # noqa: BLE001 - a study's own space may raise anything for other networks
        return False
