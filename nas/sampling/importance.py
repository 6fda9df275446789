"""Importance of each choice for a loss by PED-ANOVA (Watanabe et al., IJCAI 2023), as Optuna
implements it.

PED-ANOVA compares, choice by choice, the best tenth of the trials with all of them. Therefore it
describes what makes good networks, and not the average network.
"""

import warnings
from collections.abc import Sequence

import optuna
from optuna.importance import PedAnovaImportanceEvaluator

from nas.core.search_space import Choice, Params
from nas.sampling.proposer import distribution, position_or_value

MIN_TRIALS = 20
"""With fewer trials the best tenth holds less than two."""


def importances(
    choices: Sequence[Choice], params: Sequence[Params], losses: Sequence[float]
) -> dict[str, float]:
    """Return each choice's share of the importance for these losses (smaller is better). The shares
    sum to 1.

    The result is empty if there are fewer than `MIN_TRIALS` trials or no choice makes a difference.
    """
    open_choices = [choice for choice in choices if len(choice.values) > 1]
    if len(losses) < MIN_TRIALS or not open_choices or min(losses) == max(losses):
        return {}
    distributions = {choice.name: distribution(choice) for choice in open_choices}
    study = optuna.create_study()
    for values, loss in zip(params, losses, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                value=loss,
                distributions=distributions,
                params={c.name: position_or_value(c, values[c.name]) for c in open_choices},
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks the evaluator as experimental
        raw = PedAnovaImportanceEvaluator().evaluate(study)
    total = sum(raw.values())
    if total <= 0:
        return {}
    return {name: share / total for name, share in raw.items()}
