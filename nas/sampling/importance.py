"""How much each choice matters for a loss: PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna has
it.

It asks how far the best tenth of the trials differ, choice by choice, from all of them, so it
speaks of getting good networks and not of the average network.
"""

import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator

from nas.core.search_space import Choice, Params
from nas.sampling.proposer import distribution

MIN_TRIALS = 20
"""With fewer the best tenth is not two trials."""


def importances(
    choices: Sequence[Choice], params: Sequence[Params], losses: Sequence[float]
) -> dict[str, float]:
    """Each choice's share of the importance for these losses (smaller is better), the shares
    summing to 1.

    Empty where nothing can be said: with fewer than `MIN_TRIALS` trials, or where no choice makes a
    difference.
    """
    open_choices = [choice for choice in choices if len(choice.values) > 1]
    if len(losses) < MIN_TRIALS or not open_choices or min(losses) == max(losses):
        return {}
    study = optuna.create_study()
    distributions = {choice.name: distribution(choice) for choice in open_choices}
    study.add_trials(
        [
            optuna.trial.create_trial(
                value=loss,
                distributions=distributions,
                params={
                    c.name: c.values.index(each[c.name]) if c.ordered else each[c.name]
                    for c in open_choices
                },
            )
            for each, loss in zip(params, losses, strict=True)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is marked experimental
        found = PedAnovaImportanceEvaluator().evaluate(study)
    total = sum(found.values())
    return {name: share / total for name, share in found.items()} if total > 0 else {}
