"""Evaluate image classifiers: brief training in a search, certified measuring, replicates, final
training.
"""

from nas.searching.evaluators.contract import EvaluatorPlugin

CLASSIFICATION = EvaluatorPlugin(
    search=f"{__name__}.evaluator:Evaluator",
    certify=f"{__name__}.certifier:Certifier",
    replicate=f"{__name__}.replicator:Replicator",
    final=f"{__name__}.full:FullEvaluator",
)
