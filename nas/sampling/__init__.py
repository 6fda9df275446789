"""The source of a search's proposals: Optuna's samplers and our own, in memory, rebuilt from the
record. Optuna is imported here and in `nas.bench.samplers` only.
"""

from nas.sampling.proposer import Proposer

__all__ = ["Proposer"]
