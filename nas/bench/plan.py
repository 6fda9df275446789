"""`nas plan`: a few minutes of training that say how a study's budget is spent best.

Networks of the study's space, spread over their MACs, are measured as in a search. Those within the
limits are trained by every candidate recipe with two seeds, and once for longer: the yardstick. All
trainings of a network come before the next network, so that all recipes have the same machine.
Nothing is recorded; `nas.analysis.planning` computes what the errors say.
"""

import math
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from nas.analysis.planning import (
    MIN_NETWORKS,
    SHARES,
    Noise,
    Outlook,
    Tried,
    outlooks,
    share_for_seeds,
)
from nas.analysis.rank_agreement import Interval
from nas.bench.brief import BriefTrainings
from nas.bench.candidates import NETWORKS, SEEDS, Candidates, Pace, candidates
from nas.bench.drawn_networks import Network, spread
from nas.core.brief import BriefRecipe
from nas.core.complexity import totals
from nas.core.errors import InvalidValueError, NasError
from nas.core.study import AutoPrecision, RungSpec, StudySpec, TrainingSpec
from nas.core.units import format_duration, format_quantity
from nas.measuring.meters import find_meter
from nas.model import build
from nas.searching.evaluators.classification.evaluator import REFERENCE
from nas.searching.forecast import networks_by_limit, seconds_each
from nas.searching.profile import (
    Member,
    profile,
    random_members,
    reduced_side,
    size_problem,
    space_of,
)
from nas.training.choice import choose_numerics

MAX_NETWORKS = 32
"""Largest number of networks, and of the strata of MACs that they come from."""
POOL = 512
"""Random networks that are divided into the strata."""
SHARES_OF_SIDE = (1.0, 0.5, 0.375)
"""Sides of the images that are compared, as shares of the full side."""
LONGEST_OWN = 3.0
"""The study's own rungs are a candidate up to this multiple of the length of the others."""
FEWEST_IN_BUDGET = 24
"""No candidate is so long that the budget trains fewer networks."""
PACE_STEPS = 6
"""Steps by which the speed of training is measured."""
FEWEST_STEPS = 50
"""Steps of the shortest training."""
OWN = "the study's rungs"
"""Name of the recipe with the study's own rungs."""


@dataclass(frozen=True, kw_only=True)
class RecipePlan:
    """One recipe, what it costs, and what it distinguishes. What is unknown is None.

    `seconds` are those of a training with its judging on this machine, and `networks` is the number
    that the search trains within the study's budget.
    """

    name: str
    rungs: tuple[RungSpec, ...]
    trained: int
    failed: int
    seconds: float | None
    networks: int | None
    noise: Noise | None
    outlook: Outlook | None


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The result: the candidates in their order, and the one with the largest expected lead.

    `networks` were trained and `over_limits` were measured only. `fresh` is the share of the budget
    for new seeds with the largest lead. `best` and `fresh` are None if they are unknown. `notes`
    say what was left out.
    """

    networks: int
    over_limits: int
    macs: tuple[int, int] | None
    measure_s: float | None
    yardstick: tuple[RungSpec, ...]
    recipes: tuple[RecipePlan, ...]
    best: RecipePlan | None
    fresh: Interval | None
    notes: tuple[str, ...]


class Planner:
    """Trains for the plan of one study, and computes the plan from what is finished.

    `folder` is that of the study file. No training begins after `limit_s` seconds. Raises
    `NasError` for a study that trains nothing, or trains by an evaluator of its own.
    """

    def __init__(
        self,
        spec: StudySpec,
        folder: Path,
        limit_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not spec.needs_training or spec.evaluator != StudySpec.evaluator:
            raise NasError(
                "nas plan trains networks by the evaluator classification; this study "
                + ("trains nothing" if not spec.needs_training else f"has {spec.evaluator!r}")
            )
        self._spec, self._folder, self._clock = spec, folder, clock
        self._deadline_s, self._limit_s = clock() + limit_s, limit_s
        self._recipes: dict[str, BriefRecipe] = {}
        self._yardstick: BriefRecipe | None = None
        self._epochs: dict[str, float] = {}
        self._errors: dict[str, dict[str, dict[int, float]]] = defaultdict(dict)
        self._long: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._failed: dict[str, int] = defaultdict(int)
        self._alone_s: list[float] = []
        self._building_s: list[float] = []
        self._macs: list[int] = []
        self._over_limits = 0
        self._network_s = 0.0
        self._notes: list[str] = []

    def work(self) -> Iterator[str]:
        """Measure and train, and yield lines that say what was done."""
        yield f"reading {self._spec.data.folder or self._spec.data.dataset}"
        with TemporaryDirectory() as folder:
            file = Path(folder) / "plan.jsonl"
            spec = replace(self._spec, training=_fixed(self._spec))
            trainings = BriefTrainings(spec, file, test=False, reference=False)
            networks = _draw(spec, trainings)
            yield "timing the training"
            self._choose(spec, trainings, networks)
            yield from self._describe()
            yield from self._train(trainings, networks)

    def _choose(
        self, spec: StudySpec, trainings: BriefTrainings, networks: Sequence[Network]
    ) -> None:
        """Choose the candidates and the yardstick by the speed of a network in the middle."""
        middle = sorted(networks, key=lambda each: each.macs)[len(networks) // 2]
        sides = sides_of(spec, trainings.image_size)
        pace = Pace(
            per_image_s={side: _pace_s(spec, trainings, middle, side) for side in sides},
            judges=spec.data.validation_images,
            fewest=FEWEST_STEPS * spec.training.batch_size,
        )
        total_s = max(self._deadline_s - self._clock(), 0.0)
        most_s = _seconds_each(spec)
        chosen = candidates(pace, total_s, most_s)
        for rung in chosen.rungs:
            self._recipes[str(rung)] = BriefRecipe(rungs=(rung,), training=spec.training)
        self._yardstick = BriefRecipe(rungs=chosen.yardstick, training=spec.training)
        if chosen.without_full:
            self._notes.append(
                f"trainings with images of {sides[0]} pixels are not compared: in the time of the "
                f"others they have fewer than {FEWEST_STEPS} steps"
            )
        if chosen.longest_s < most_s < math.inf:
            self._notes.append(
                f"the budget has the time for {FEWEST_IN_BUDGET} networks of "
                f"{format_duration(most_s)} each; trainings of more than about "
                f"{format_duration(chosen.longest_s)} were not compared, which needs a longer --for"
            )
        self._network_s = chosen.network_s
        self._add_own(spec, trainings, pace, chosen)
        self._epochs = {name: trainings.ends(each)[-1] for name, each in self._recipes.items()}

    def _add_own(
        self, spec: StudySpec, trainings: BriefTrainings, pace: Pace, chosen: Candidates
    ) -> None:
        """Make the study's own rungs a candidate, unless they take too long to compare."""
        own = BriefRecipe(rungs=spec.rungs, training=spec.training)
        parts, before = [], 0.0
        for each, end in zip(own.rungs, trainings.ends(own), strict=True):
            images = (end - before) * trainings.train_images
            parts.append((images, trainings.side(each)))
            before = end
        seconds, longest_s = pace.seconds(parts), LONGEST_OWN * chosen.longest_s
        if seconds <= longest_s:
            self._recipes[OWN] = own
            self._network_s += SEEDS * seconds
            return
        needed_s = NETWORKS * chosen.network_s * seconds / longest_s
        reason = f"here; --for {math.ceil(needed_s / 60)}min has the time"
        if seconds > LONGEST_OWN * _seconds_each(spec):
            reason = "within the study's budget"
        self._notes.append(
            f"the study's own rungs take about {format_duration(seconds)} for each network, too "
            f"long to compare {reason}"
        )

    def _describe(self) -> Iterator[str]:
        if self._yardstick is None:
            return
        yield f"{len(self._recipes)} recipes, {SEEDS} seeds each: {', '.join(self._recipes)}"
        yield f"the yardstick: {', then up to '.join(map(str, self._yardstick.rungs))}"
        yield (
            f"a network takes about {format_duration(self._network_s)} of training; at least "
            f"{MIN_NETWORKS} are needed"
        )

    def _train(self, trainings: BriefTrainings, networks: Sequence[Network]) -> Iterator[str]:
        wanted = [Member(name="", architecture=each.architecture) for each in networks]
        measured = profile(self._spec, wanted, self._folder)
        for number, network in enumerate(networks, 1):
            if self._clock() >= self._deadline_s:
                return
            started_s = self._clock()
            member = next(measured)
            self._alone_s.append(member.evaluation.measure_s)
            self._building_s.append(member.building_s)
            violation = member.violation(self._spec.measured_objectives)
            shown = f"network {number}, {format_quantity(network.macs, '1')} MACs"
            if violation is None:
                yield f"{shown}: left out, {member.failure}"
                continue
            if violation > 0:
                self._over_limits += 1
                yield f"{shown}: over a limit, not trained"
                continue
            self._macs.append(network.macs)
            self._train_network(trainings, network)
            took = format_duration(self._clock() - started_s)
            yield f"{shown}, {took}: {self._errors_of(network)}"

    def _train_network(self, trainings: BriefTrainings, network: Network) -> None:
        for seed in range(SEEDS):
            for name, recipe in self._recipes.items():
                error = self._trained(trainings, network, name, recipe, seed)
                if error is not None:
                    self._errors[name].setdefault(network.name, {})[seed] = error
            if seed == 0 and self._yardstick is not None:
                error = self._trained(trainings, network, "yardstick", self._yardstick, 0)
                if error is not None:
                    self._long[network.name] = error

    def _trained(
        self, trainings: BriefTrainings, network: Network, name: str, recipe: BriefRecipe, seed: int
    ) -> float | None:
        """Return the error; None if the time is over or the training failed."""
        if self._clock() >= self._deadline_s:
            return None
        lines = list(trainings.advance(network, name, recipe, seed))
        error: float | None = lines[-1]["error"]
        if error is None:
            self._failed[name] += 1
        else:
            self._seconds[name].append(sum(line["wall_s"] for line in lines))
        return error

    def _errors_of(self, network: Network) -> str:
        parts = [
            f"{name} {' and '.join(f'{100 * error:.1f}' for error in seeds.values())} %"
            for name in self._recipes
            if (seeds := self._errors[name].get(network.name))
        ]
        if network.name in self._long:
            parts.append(f"yardstick {100 * self._long[network.name]:.1f} %")
        return "; ".join(parts)

    def _budgeted(self, name: str) -> tuple[float, int]:
        """Return the seconds of a training with this recipe, and the number of networks that the
        budget of the search, without the share for new seeds, buys.
        """
        seconds = statistics.fmean(self._seconds[name])
        alone_s, building_s = map(statistics.median, (self._alone_s, self._building_s))
        # measured networks for each that is trained
        tried = len(self._alone_s) / max(len(self._macs), 1)
        limits = networks_by_limit(
            self._spec.search_budget,
            each_s=seconds_each(
                self._spec,
                alone_s=tried * alone_s,
                building_s=tried * building_s,
                training_s=seconds,
            ),
            device_s=tried * alone_s + seconds,
            epochs=self._epochs[name],
        )
        return seconds, math.floor(min(limits.values()))

    def result(self) -> StudyPlan:
        """Return the plan from what is finished."""
        budgeted = {name: self._budgeted(name) for name in self._recipes if self._seconds[name]}
        tried = {
            name: Tried(name=name, errors=self._errors[name], networks=networks)
            for name, (_, networks) in budgeted.items()
        }
        expected = outlooks(list(tried.values()), self._long)
        recipes = tuple(
            RecipePlan(
                name=name,
                rungs=recipe.rungs,
                trained=len(self._errors[name]),
                failed=self._failed[name],
                seconds=budgeted[name][0] if name in budgeted else None,
                networks=budgeted[name][1] if name in budgeted else None,
                noise=tried[name].noise if name in tried else None,
                outlook=expected.get(name),
            )
            for name, recipe in self._recipes.items()
        )
        leads = {each: each.outlook.lead.value for each in recipes if each.outlook is not None}
        best = max(leads, key=lambda each: leads[each], default=None)
        if best is not None and best.outlook is not None and best.outlook.is_vague:
            best = None
        return StudyPlan(
            networks=len(self._macs),
            over_limits=self._over_limits,
            macs=(min(self._macs), max(self._macs)) if self._macs else None,
            measure_s=statistics.median(self._alone_s) if self._alone_s else None,
            yardstick=self._yardstick.rungs if self._yardstick else (),
            recipes=recipes,
            best=best,
            fresh=_fresh(best, self._spec),
            notes=tuple(self._notes),
        )


def _fresh(best: RecipePlan | None, spec: StudySpec) -> Interval | None:
    """Return the best share of new seeds with this recipe, None if it is unknown."""
    if best is None or best.noise is None or best.networks is None:
        return None
    share = share_for_seeds(best.networks / (1 - spec.fresh), best.noise.reliability)
    return None if share.is_vague(SHARES[-1]) else share


def sides_of(spec: StudySpec, side: int) -> list[int]:
    """Return the sides of the images that are compared, the full one first."""
    space = space_of(spec)
    shares = (share for share in SHARES_OF_SIDE if share < 1)
    return list(dict.fromkeys([side, *(reduced_side(space, side, share) for share in shares)]))


def _seconds_each(spec: StudySpec) -> float:
    """Return the seconds of one network if the budget's time trains `FEWEST_IN_BUDGET`."""
    budget = spec.search_budget
    seconds = [math.inf]
    if budget.wall_time_s is not None:
        seconds.append(budget.wall_time_s * spec.workers.count)
    if budget.device_s is not None:
        seconds.append(budget.device_s)
    return min(seconds) / FEWEST_IN_BUDGET


def _fixed(spec: StudySpec) -> TrainingSpec:
    """Return the study's training with the number formats that a search here would choose.

    They are timed at half of CIFAR's side, since no image has been read yet.
    """
    torch.set_num_threads(spec.workers.cpus)
    with find_meter() as meter, meter.exclusive():
        numerics, _ = choose_numerics(
            spec.training,
            meter.torch_device,
            partial(build, REFERENCE, 10),
            image_size=16,
            rounds=2,
        )
    precision = AutoPrecision.TF32 if numerics.conv_tf32 else numerics.precision
    return replace(spec.training, precision=precision, channels_last=numerics.channels_last)


def _draw(spec: StudySpec, trainings: BriefTrainings) -> list[Network]:
    """Draw a random network from each of equally large strata of MACs, so that any first few are
    spread over all sizes. Networks that do not take the smallest images are left out.
    """
    smallest = sides_of(spec, trainings.image_size)[-1]
    pool = sorted(
        (
            Network(
                architecture=member.architecture,
                macs=int(
                    totals(member.architecture, trainings.image_size, trainings.classes)["macs"]
                ),
                set_aside=False,
            )
            for member in random_members(space_of(spec), POOL, spec.seed)
            if not size_problem(member.architecture, smallest)
        ),
        key=lambda network: (network.macs, network.name),
    )
    if not pool:
        raise InvalidValueError(f"no network of {spec.space} takes images of {smallest} pixels")
    generator = random.Random(spec.seed)
    strata = np.array_split(np.arange(len(pool)), min(MAX_NETWORKS, len(pool)))
    return spread([pool[generator.choice(stratum.tolist())] for stratum in strata])


def _pace_s(spec: StudySpec, trainings: BriefTrainings, network: Network, side: int) -> float:
    """Return the seconds of training for each image of this side; the first of two trainings only
    warms up.
    """
    recipe = BriefRecipe(
        rungs=(RungSpec(steps=PACE_STEPS, image_size=side),), training=spec.training, judges=100
    )
    seconds = 0.0
    for seed in range(2):
        (line,) = trainings.advance(network, f"pace {side}", recipe, seed)
        if line["error"] is None:
            raise NasError(f"the training fails: {line['reason']}")
        seconds = line["wall_s"]
    return seconds / float(line["images"])
