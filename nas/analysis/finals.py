"""Results of final trainings: test errors over seeds, and how well the search ranked networks."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nas.analysis.rank_agreement import kendall_tau
from nas.core.recipe import FinalTraining
from nas.core.trial import Trial
from nas.core.units import format_quantity

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class FinalResult:
    """The trainings of one network by one recipe, in the order of completion."""

    trainings: tuple[FinalTraining, ...]

    @property
    def first(self) -> FinalTraining:
        """The training whose weights are used. Choosing the seed with the least test error would
        select by the test images.
        """
        return self.trainings[0]

    @property
    def errors(self) -> tuple[float, ...]:
        """The test errors."""
        return tuple(training.reached.error for training in self.trainings)

    @property
    def mean(self) -> float:
        """The mean error."""
        return float(np.mean(self.errors))

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds, None for one seed."""
        return float(np.std(self.errors, ddof=1)) if len(self.errors) > 1 else None

    def __str__(self) -> str:
        mean = format_quantity(self.mean, "1", metric="error")
        if self.deviation is None:
            return f"{mean}, 1 seed"
        return f"{mean} ± {100 * self.deviation:.2f}, {len(self.errors)} seeds"


def results(finals: Sequence[FinalTraining]) -> list[FinalResult]:
    """Return one result for each network and recipe, those of the newest recipe last."""
    groups: dict[tuple[str, str], list[FinalTraining]] = {}
    for final in finals:
        groups.setdefault((final.network, final.recipe.digest), []).append(final)
    recipes = list(dict.fromkeys(final.recipe.digest for final in finals))
    unsorted = [FinalResult(trainings=tuple(group)) for group in groups.values()]
    return sorted(unsorted, key=lambda result: recipes.index(result.first.recipe.digest))


def latest_results(
    finals: Sequence[FinalTraining], trials: Sequence[Trial]
) -> dict[int, FinalResult]:
    """Return the result of each finally trained trial by number.

    If the trial's network was trained by several recipes, the result is that of the newest one.
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
    """The search's ranking of networks by error, compared with that of their final trainings.

    `tau` is Kendall's tau (b), None if all errors of one of the two are equal. `wrong` are the
    pairs of trials that the search ranked the wrong way round, the better one first.

    A pair counts as wrong if its final means differ by more than the 95 % quantile of Student's t
    times their standard error, with the deviation pooled over all networks. With one seed for each
    network there is no deviation: then `sure` is False and every pair in the other order counts.
    """

    trials: int
    tau: float | None
    wrong: tuple[tuple[int, int], ...]
    sure: bool

    def lines(self) -> Iterator[str]:
        """Describe the comparison, with a warning for each wrong pair."""
        if self.tau is not None:
            yield (
                "Kendall's tau between the search's errors and the final ones: "
                f"{self.tau:.2f} over {self.trials} networks"
            )
        doubt = "" if self.sure else " (one seed each, may be chance: train more with --seeds)"
        for better, worse in self.wrong:
            yield (
                f"WARNING: brief training misled the search: trial {worse} had a lower error than "
                f"trial {better}, but has a higher one when both are trained fully{doubt}"
            )


def ranking(trials: Sequence[Trial], final_results: Mapping[int, FinalResult]) -> Ranking | None:
    """Compare the rankings of the trials that have a result by the most frequent recipe.

    `final_results` holds results by trial number. Returns None for fewer than two such trials.
    """
    compared = _with_common_recipe(trials, final_results)
    if len(compared) < 2:
        return None
    searched = {t.number: float(t.evaluation.value("error") or 0.0) for t in compared}
    final = {t.number: final_results[t.number] for t in compared}
    margin = _margin(list(final.values()))
    wrong = []
    for pair in combinations(searched, 2):
        better, worse = sorted(pair, key=lambda number: final[number].mean)
        scale = math.sqrt(1 / len(final[better].errors) + 1 / len(final[worse].errors))
        difference = final[worse].mean - final[better].mean
        if searched[worse] < searched[better] and difference > margin * scale:
            wrong.append((better, worse))
    return Ranking(
        trials=len(compared),
        tau=kendall_tau(list(searched.values()), [result.mean for result in final.values()]),
        wrong=tuple(wrong),
        sure=margin > 0,
    )


def _with_common_recipe(
    trials: Sequence[Trial], final_results: Mapping[int, FinalResult]
) -> list[Trial]:
    """Return the trials with an error and a result by the recipe that most of them have."""
    trained = [
        trial
        for trial in trials
        if trial.number in final_results
        and trial.duplicate_of is None
        and trial.evaluation.value("error") is not None
    ]
    digests = [final_results[trial.number].first.recipe.digest for trial in trained]
    common = max(digests, key=digests.count, default="")
    return [trial for trial, digest in zip(trained, digests, strict=True) if digest == common]


def _margin(final_results: Sequence[FinalResult]) -> float:
    """Return Student's t times the pooled deviation of one training.

    Returns 0 if every network was trained with one seed.
    """
    freedom = sum(len(result.errors) - 1 for result in final_results)
    if freedom == 0:
        return 0.0
    from scipy.special import stdtrit

    squares = sum(float(np.var(result.errors)) * len(result.errors) for result in final_results)
    return float(stdtrit(freedom, 0.5 + CONFIDENCE / 2)) * math.sqrt(squares / freedom)
