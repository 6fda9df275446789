"""Results of final trainings: test figures over seeds, and how well the search ranked networks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nas.analysis.rank_agreement import kendall_tau
from nas.core.recipe import FinalTraining
from nas.core.study import Direction, TrainedMetric
from nas.core.trial import Trial
from nas.core.units import format_trained

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class FinalResult:
    """The trainings of one network by one recipe, in the order of completion."""

    trainings: tuple[FinalTraining, ...]

    @property
    def first(self) -> FinalTraining:
        """The training whose weights are used. Choosing the seed with the best test figure would
        select by the test images.
        """
        return self.trainings[0]

    def of_seeds(self, metric: str) -> tuple[float, ...]:
        """Return the figures on the test images, without trainings that gave none."""
        reached = [training.reached.metrics for training in self.trainings]
        return tuple(metrics[metric] for metrics in reached if metric in metrics)

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds, None if the trainings gave no such figure."""
        values = self.of_seeds(metric)
        return float(np.mean(values)) if values else None

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation over seeds, None for fewer than two."""
        values = self.of_seeds(metric)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def text(self, metric: TrainedMetric) -> str:
        """Format mean, deviation and number of seeds, or `-` without a figure."""
        mean, deviation = self.mean(metric.name), self.deviation(metric.name)
        shown = format_trained(metric, mean)
        if mean is None:
            return shown
        if deviation is None:
            return f"{shown}, 1 seed"
        spread = f"{100 * deviation:.2f}" if metric.is_share else format_trained(metric, deviation)
        return f"{shown} ± {spread}, {len(self.of_seeds(metric.name))} seeds"


def results(finals: Sequence[FinalTraining]) -> list[FinalResult]:
    """Return one result for each network and recipe, in the order of their last trainings.

    `finals` are in the order in which they ended.
    """
    groups: dict[tuple[str, str], list[FinalTraining]] = {}
    for final in finals:
        key = final.network, final.recipe.digest
        groups[key] = [*groups.pop(key, []), final]
    return [FinalResult(trainings=tuple(group)) for group in groups.values()]


def on_images_of_the_study(finals: Sequence[FinalTraining]) -> list[FinalTraining]:
    """Return the trainings whose test images are the study's, which its own errors compare with."""
    return [final for final in finals if final.recipe.large is None]


def latest_results(
    finals: Sequence[FinalTraining], trials: Sequence[Trial]
) -> dict[int, FinalResult]:
    """Return the result of each finally trained trial by number.

    If the trial's network was trained by several recipes, the result is that of the one that was
    used last for it.
    Duplicates share their network's result.
    """
    latest = {result.first.network: result for result in results(finals)}
    return {
        trial.number: latest[trial.architecture.digest]
        for trial in (trials if latest else ())
        if trial.architecture.digest in latest
    }


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The search's ranking of networks by a metric, compared with that of their final trainings.

    `tau` is Kendall's tau (b), None if all values of one of the two are equal. `wrong` are the
    pairs of trials that the search ranked the wrong way round, the better one first.

    A pair counts as wrong if its final means differ by more than the 95 % quantile of Student's t
    times their standard error, with the deviation pooled over all networks. With one seed for each
    network there is no deviation: then `sure` is False and every pair in the other order counts.
    """

    metric: str
    trials: int
    tau: float | None
    wrong: tuple[tuple[int, int], ...]
    sure: bool

    def lines(self) -> Iterator[str]:
        """Describe the comparison, with a warning for each wrong pair."""
        if self.tau is not None:
            yield (
                f"Kendall's tau between the search's {self.metric} and the final one: "
                f"{self.tau:.2f} over {self.trials} networks"
            )
        doubt = "" if self.sure else " (one seed each, may be chance: train more with --seeds)"
        for better, worse in self.wrong:
            yield (
                f"WARNING: brief training misled the search: by {self.metric} trial {worse} was "
                f"better than trial {better}, but is worse when both are trained fully{doubt}"
            )


def ranking(
    trials: Sequence[Trial], final_results: Mapping[int, FinalResult], metric: TrainedMetric
) -> Ranking | None:
    """Compare the rankings of the trials that have a result by the most frequent recipe.

    `final_results` holds results by trial number. Returns None for fewer than two such trials.
    """
    name, sign = metric.name, 1.0 if metric.direction is Direction.MINIMIZE else -1.0
    compared = _with_common_recipe(trials, final_results, name)
    if len(compared) < 2:
        return None
    searched = {t.number: sign * (t.evaluation.value(name) or 0.0) for t in compared}
    seeds = {t.number: final_results[t.number].of_seeds(name) for t in compared}
    final = {number: sign * float(np.mean(values)) for number, values in seeds.items()}
    margin = _margin(list(seeds.values()))
    wrong = []
    for pair in combinations(searched, 2):
        better, worse = sorted(pair, key=lambda number: final[number])
        scale = math.sqrt(1 / len(seeds[better]) + 1 / len(seeds[worse]))
        difference = final[worse] - final[better]
        if searched[worse] < searched[better] and difference > margin * scale:
            wrong.append((better, worse))
    return Ranking(
        metric=name,
        trials=len(compared),
        tau=kendall_tau(list(searched.values()), list(final.values())),
        wrong=tuple(wrong),
        sure=margin > 0,
    )


def _with_common_recipe(
    trials: Sequence[Trial], final_results: Mapping[int, FinalResult], metric: str
) -> list[Trial]:
    """Return the trials with a value and a result by the recipe that most of them have."""
    trained = [
        trial
        for trial in trials
        if trial.number in final_results
        and on_images_of_the_study(final_results[trial.number].trainings)
        and final_results[trial.number].of_seeds(metric)
        and trial.duplicate_of is None
        and trial.evaluation.value(metric) is not None
    ]
    digests = [final_results[trial.number].first.recipe.digest for trial in trained]
    common = max(digests, key=digests.count, default="")
    return [trial for trial, digest in zip(trained, digests, strict=True) if digest == common]


def _margin(seeds: Sequence[Sequence[float]]) -> float:
    """Return Student's t times the pooled deviation of one training, given each network's values.

    Returns 0 if every network was trained with one seed.
    """
    freedom = sum(len(values) - 1 for values in seeds)
    if freedom == 0:
        return 0.0
    from scipy.special import stdtrit

    squares = sum(float(np.var(values)) * len(values) for values in seeds)
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(squares / freedom)
