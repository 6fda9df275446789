"""Evaluators of architectures, which count, measure, and train rung by rung.

`contract` is what every evaluator offers; each kind of evaluator is a package of its own, found by
name in the entry-point group `nas.evaluators`.
"""

from nas.core.preparation import Preparation
from nas.searching.evaluators.contract import (
    Evaluates,
    EvaluatorPlugin,
    StudyContext,
    built_by,
    prepared_by,
)

__all__ = ["Evaluates", "EvaluatorPlugin", "Preparation", "StudyContext", "built_by", "prepared_by"]
