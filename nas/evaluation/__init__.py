"""Evaluating one architecture: counted, measured, then trained rung by rung."""

from nas.evaluation.job import Evaluates, Job, Preparation

__all__ = ["Evaluates", "Job", "Preparation"]
