"""Where proposals come from: Optuna's samplers, in memory, rebuilt from the record. The only home
of Optuna.
"""

from nas.sampling.proposer import Proposer

__all__ = ["Proposer"]
