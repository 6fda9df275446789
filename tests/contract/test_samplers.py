"""Every sampler of this repository passes the contract; the slow one is in `test_gp_sampler`."""

from nas.core import plugins
from nas.testing.sampler_contract import SamplerContract


class TestRandom(SamplerContract):
    """Random search, which ignores earlier trials."""

    def make(self, seed):
        return plugins.load("nas.samplers", "random")(seed)


class TestTpe(SamplerContract):
    """Optuna's tree-structured Parzen estimator."""

    def make(self, seed):
        return plugins.load("nas.samplers", "tpe")(seed)


class TestNsga2(SamplerContract):
    """Optuna's NSGA-II, which stores the parents of a generation with the study."""

    def make(self, seed):
        return plugins.load("nas.samplers", "nsga2")(seed)


class TestNsga3(SamplerContract):
    """Optuna's NSGA-III."""

    def make(self, seed):
        return plugins.load("nas.samplers", "nsga3")(seed)


class TestMutateFront(SamplerContract):
    """Mutation of the front, an informed sampler without a model."""

    def make(self, seed):
        return plugins.load("nas.samplers", "mutate_front")(seed)


class TestKnownCost(SamplerContract):
    """The default sampler, which knows the costs of networks."""

    def make(self, seed):
        return plugins.load("nas.samplers", "known-cost")(seed)


def test_every_registered_sampler_is_tested():
    """A new sampler gets a class in this file."""
    assert plugins.names("nas.samplers") == [
        "gp",
        "known-cost",
        "mutate_front",
        "nsga2",
        "nsga3",
        "random",
        "tpe",
    ]
