"""What final trainings say: errors on the test images over seeds, and whether the search ranked its
trials right.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nas.analysis.rank_agreement import kendall_tau
from nas.core.recipe import FinalTraining, Recipe
from nas.core.trial import Trial
from nas.core.units import format_quantity

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class FinalResult:
    """One network's trainings by one recipe: errors on the test images, in the order in which they
    ended.
    """

    network: str
    recipe: Recipe
    errors: tuple[float, ...]
    weights: str | None
    """The file of the first training: a choice among seeds by their test errors would be one by the
    test images.
    """

    @property
    def mean(self) -> float:
        """The mean error."""
        return float(np.mean(self.errors))

    @property
    def deviation(self) -> float | None:
        """The standard deviation over seeds; None for one seed."""
        return float(np.std(self.errors, ddof=1)) if len(self.errors) > 1 else None

    def __str__(self) -> str:
        if self.deviation is None:
            return f"{format_quantity(self.mean, '1', metric='error')}, 1 seed"
        return f"{format_quantity(self.mean, '1', metric='error')} ± {100 * self.deviation:.2f}, {len(self.errors)} seeds"


def results(finals: Sequence[FinalTraining]) -> list[FinalResult]:
    """One for each network and recipe, those of the newest recipe last."""
    groups: dict[tuple[str, str], list[FinalTraining]] = {}
    for final in finals:
        groups.setdefault((final.network, final.recipe.digest), []).append(final)
    recipes = list(dict.fromkeys(final.recipe.digest for final in finals))
    found = [
        FinalResult(
            network=network,
            recipe=group[0].recipe,
            errors=tuple(f.reached.error for f in group),
            weights=group[0].reached.checkpoint,
        )
        for (network, _), group in groups.items()
    ]
    return sorted(found, key=lambda result: recipes.index(result.recipe.digest))


def latest_results(
    finals: Sequence[FinalTraining], trials: Sequence[Trial]
) -> dict[int, FinalResult]:
    """Of each trial that was finally trained the result of the recipe that was used last in the
    study, else of the last one for this network. Duplicates share their network's.
    """
    latest = {result.network: result for result in results(finals)}
    return {
        trial.number: latest[trial.architecture.digest]
        for trial in (trials if latest else ())
        if trial.architecture.digest in latest
    }


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The search's ranking of networks by error beside that of their final trainings: Kendall's tau
    (b), None where one of the two has only ties, and the pairs of trials that the search has the
    wrong way round.

    A pair counts as wrong where the difference of the final means is beyond the 95 % of Student's t
    with the deviation of the seeds pooled; with one seed each there is no such deviation, and every
    turned pair counts (`sure` is False).
    """

    trials: int
    tau: float | None
    wrong: tuple[tuple[int, int], ...]
    sure: bool

    def lines(self) -> Iterator[str]:
        """What a person should know of it."""
        if self.tau is not None:
            yield (
                f"Kendall's tau between the search's errors and the final ones: {self.tau:.2f} over "
                f"{self.trials} networks"
            )
        doubt = "" if self.sure else " (one seed each, so it may be luck: train more with --seeds)"
        for better, worse in self.wrong:
            yield (
                f"WARNING: brief training misled: trial {worse} looked better than trial {better} in the search, "
                f"and is worse when both are trained fully{doubt}"
            )


def ranking(trials: Sequence[Trial], found: Mapping[int, FinalResult]) -> Ranking | None:
    """Compare over the trials with results by one recipe, that of most; None for less than two of
    them.
    """
    known = [
        t
        for t in trials
        if t.number in found and t.duplicate_of is None and t.evaluation.value("error") is not None
    ]
    digests = [found[t.number].recipe.digest for t in known]
    common = max(digests, key=digests.count, default="")
    known = [t for t, digest in zip(known, digests, strict=True) if digest == common]
    if len(known) < 2:
        return None
    searched = {t.number: float(t.evaluation.value("error") or 0.0) for t in known}
    final = {t.number: found[t.number] for t in known}
    tau = kendall_tau(list(searched.values()), [result.mean for result in final.values()])
    margin = _margin(list(final.values()))
    wrong = []
    for one, other in combinations(searched, 2):
        better, worse = sorted((one, other), key=lambda number: final[number].mean)
        apart = math.sqrt(1 / len(final[better].errors) + 1 / len(final[worse].errors))
        if (
            searched[worse] < searched[better]
            and final[worse].mean - final[better].mean > margin * apart
        ):
            wrong.append((better, worse))
    return Ranking(trials=len(known), tau=tau, wrong=tuple(wrong), sure=margin > 0)


def _margin(found: Sequence[FinalResult]) -> float:
    """Student's t times the pooled deviation of one training; 0 where every network has one
    seed.
    """
    freedom = sum(len(result.errors) - 1 for result in found)
    if freedom == 0:
        return 0.0
    from scipy.stats import t as student

    pooled = math.sqrt(
        sum(float(np.var(result.errors)) * len(result.errors) for result in found) / freedom
    )
    return float(student.ppf(0.5 + CONFIDENCE / 2, freedom)) * pooled
