"""Evaluate image classifiers: brief training in a search, certified measuring, replicates, final
training.
"""

from nas.core.study import ERROR, TrainedMetric
from nas.searching.evaluators.contract import EvaluatorPlugin

TOP5_ERROR = TrainedMetric(name="top5_error")
"""Share of images whose class is not among the five most likely ones. It is given for data with
more than five classes.
"""

CLASSIFICATION = EvaluatorPlugin(
    search=f"{__name__}.evaluator:Evaluator",
    certify=f"{__name__}.certifier:Certifier",
    replicate=f"{__name__}.replicator:Replicator",
    final=f"{__name__}.full:FullEvaluator",
    trained=(ERROR, TOP5_ERROR),
    foreign=True,
)
