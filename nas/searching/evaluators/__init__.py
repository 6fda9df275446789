"""Evaluating one architecture: counted, measured, then trained rung by rung."""

from nas.searching.evaluators.contract import Evaluates, Preparation, StudyContext

__all__ = ["Evaluates", "Preparation", "StudyContext"]
