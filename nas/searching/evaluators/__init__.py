"""Evaluating one architecture: counted, measured, then trained rung by rung."""

from nas.searching.evaluators.contract import Evaluates, Job, Preparation

__all__ = ["Evaluates", "Job", "Preparation"]
