"""The slowest sampler passes the contract, too."""

import pytest

from nas.core import plugins
from nas.testing.sampler_contract import SamplerContract


@pytest.mark.slow
class TestGp(SamplerContract):
    """Optuna's Gaussian processes, which need up to a second for a proposal once ten trials are
    complete. Of the first fifteen trials ten are.
    """

    trials = 18

    def make(self, seed):
        return plugins.load("nas.samplers", "gp")(seed)
