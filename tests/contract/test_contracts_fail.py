"""The contracts find mistakes: each plugin here has one, and the test that is to find it fails."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from optuna.samplers import RandomSampler

from nas.core import plugins
from nas.core.measurement import Kind, Measurement
from nas.core.study import DataSpec
from nas.core.tasks import Task
from nas.data import Images
from nas.data.digits import DIGITS
from nas.measuring.metrics import Phase
from nas.measuring.runtimes.eager import EagerRuntime
from nas.searching.evaluators import EvaluatorPlugin
from nas.testing.dataset_contract import DatasetContract
from nas.testing.evaluator_contract import EvaluatorContract
from nas.testing.evaluators import ArithmeticEvaluator
from nas.testing.metric_contract import MetricContract
from nas.testing.runtime_contract import RuntimeContract
from nas.testing.sampler_contract import SamplerContract
from nas.testing.space_contract import SpaceContract
from search_spaces import osa_tiny


class Space:
    """The tiny space, with some attributes replaced."""

    def __init__(self, **changes: object) -> None:
        for name in ("choices", "cardinality", "decode", "encode"):
            setattr(self, name, changes.get(name, getattr(osa_tiny.SPACE, name)))


def without_width(params: Mapping[str, object]) -> object:
    """Decode without regard to one choice."""
    return osa_tiny.SPACE.decode({**params, "stage3.mid_channels": 8})


@pytest.mark.parametrize(
    ("space", "test"),
    [
        (Space(cardinality=192), "test_the_cardinality_is_the_number_of_networks"),
        (Space(decode=without_width), "test_every_value_changes_some_network"),
        (Space(encode=lambda _: {}), "test_decode_and_encode_are_inverses"),
        (
            Space(encode=lambda _: {c.name: c.values[0] for c in osa_tiny.SPACE.choices}),
            "test_an_architecture_of_another_space_is_refused",
        ),
    ],
)
def test_mistakes_of_a_space(space, test):
    """A wrong cardinality, a choice without effect, and an `encode` that guesses."""

    class Contract(SpaceContract):
        def make(self):
            return space

    fails(getattr(Contract(), test))


def test_a_sampler_that_ignores_its_seed():
    """It proposes the same network for ever."""

    class Contract(SamplerContract):
        def make(self, seed):
            return RandomSampler(seed=0)

    fails(Contract().test_it_does_not_repeat_itself, "one")


def test_a_sampler_without_a_seed():
    """Its proposals differ after a search resumes."""

    class Contract(SamplerContract):
        def make(self, seed):
            return RandomSampler()

    fails(Contract().test_a_resumed_search_proposes_the_same, "one", 1)


@pytest.mark.parametrize(
    ("changes", "test"),
    [
        ({"unit": "ms"}, "test_the_figure_is_that_of_the_metric"),
        ({"measured": {"ci_low": None}}, "test_the_figure_has_an_interval_or_a_reason"),
        ({"measured": {"ci_low": 1e99}}, "test_the_figure_has_an_interval_or_a_reason"),
        ({"measured": {"details": {"sizes": (1, 2)}}}, "test_the_figure_can_be_recorded"),
        ({"phase": Phase.MEASURED, "kind": Kind.COUNTED}, "test_it_says_what_it_is"),
    ],
)
def test_mistakes_of_a_metric(changes, test):
    """Another unit, no interval, a value outside it, details that JSON changes, a wrong phase."""
    macs = plugins.load("nas.metrics", "macs")
    settings = {name: value for name, value in changes.items() if name != "measured"}

    def measure(subject) -> Measurement:
        return replace(macs.measure(subject), **changes.get("measured", {}))

    class Contract(MetricContract):
        def make(self):
            return replace(macs, measure=measure, **settings)

    contract = Contract()
    if test == "test_it_says_what_it_is":
        fails(contract.test_it_says_what_it_is)
    else:
        fails(getattr(contract, test), subject_of(contract))


@pytest.mark.parametrize(
    ("changes", "test"),
    [
        ({"classes": ("zero", "one")}, "test_training_images_are_rgb_bytes_with_labels"),
        ({"classes": ("zero",) * 10}, "test_it_says_what_it_is"),
        ({"mean": (127.5,) * 3}, "test_mean_and_deviation_are_those_of_scaled_pixels"),
        ({"shuffled": True}, "test_it_is_the_same_each_time"),
        ({"read_test": None}, "test_test_images_are_like_the_training_images"),
    ],
)
def test_mistakes_of_a_data_set(changes, test, tmp_path):
    """Labels without a class, equal names, statistics of bytes, a random order, other sizes."""
    small = Images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))

    class Source:
        prepare = DIGITS.prepare

        def load(self, spec):
            dataset = DIGITS.load(spec)
            if "shuffled" in changes:
                return replace(dataset, train=dataset.train.take(torch.randperm(1437)))
            if "read_test" in changes:
                return replace(dataset, read_test=lambda: small)
            return replace(dataset, **changes)

    class Contract(DatasetContract):
        def make(self):
            return Source()

        def spec(self, folder):
            return DataSpec(dataset="digits", validation_images=1)

    fails(getattr(Contract(), test), tmp_path)


class Forgetful(ArithmeticEvaluator):
    """Does a resumed task from its beginning."""

    def steps(self, task):
        return super().steps(Task(number=0, architecture=task.architecture, seed=0))


class Hasty(ArithmeticEvaluator):
    """Trains before it measures."""

    def steps(self, task):
        return reversed(list(super().steps(task)))


class Local(ArithmeticEvaluator):
    """Reports a time that is equal to no other one, and therefore not to its copy."""

    def steps(self, task):
        for event in super().steps(task):
            yield replace(event, waiting_s=object())


@pytest.mark.parametrize(
    ("evaluator", "test"),
    [
        (Forgetful, "test_it_resumes_after_each_event_without_repeating_it"),
        (Hasty, "test_it_measures_and_then_trains_rung_by_rung"),
        (Local, "test_every_event_can_be_sent_to_another_process"),
        (ArithmeticEvaluator, "test_a_network_that_it_cannot_do_fails_its_trial"),
        (ArithmeticEvaluator, "test_it_reads_the_study_s_data_if_it_says_so"),
    ],
)
def test_mistakes_of_an_evaluator(evaluator, test, tmp_path):
    """It repeats work, has another order, cannot be sent, reports an impossible network, or needs
    no data although it says so.
    """
    name = "nas.testing.evaluators:ArithmeticEvaluator"

    class Contract(EvaluatorContract):
        def make(self):
            return EvaluatorPlugin(search=name, certify=name, replicate=name, final=name)

        def evaluator_class(self):
            return evaluator

    fails(getattr(Contract(), test), tmp_path)


class Stale(EagerRuntime):
    """Gives the output of the first input for all of them."""

    def load(self, built, inputs, plan):
        return super().load(built, [inputs[0]] * len(inputs), plan)


class Greedy(EagerRuntime):
    """Takes more threads than the plan has."""

    def load(self, built, inputs, plan):
        found, pool = super().load(built, inputs, plan), ThreadPoolExecutor(1)

        def forward(index):
            pool.submit(sum, range(20000)).result()
            return found.forward(index)

        return replace(found, forward=forward)


class Coarse(EagerRuntime):
    """Computes in bfloat16 under the name of float32."""

    def load(self, built, inputs, plan):
        coarse = [each.bfloat16().float() for each in inputs]
        return super().load(built, coarse, plan)


class Harmful(EagerRuntime):
    """Changes the network itself."""

    def build(self, network, plan, device):
        return network.eval()


@pytest.mark.parametrize(
    ("runtime", "test", "arguments"),
    [
        (Stale(), "test_outputs_are_those_of_eager_pytorch", (1,)),
        (Coarse(), "test_outputs_are_those_of_eager_pytorch", (1,)),
        (Greedy(), "test_the_thread_count_is_obeyed", (1,)),
        (Harmful(), "test_what_is_built_once_can_be_loaded_again", ()),
    ],
)
def test_mistakes_of_a_runtime(runtime, test, arguments):
    """Stale outputs, another precision, too many threads, and a changed network."""

    class Contract(RuntimeContract):
        def make(self):
            return runtime

    fails(getattr(Contract(), test), *arguments)


def fails(test, *arguments: object) -> None:
    """Check that a test of a contract fails, by an assertion or a missing error."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(*arguments)


def subject_of(contract: MetricContract):
    """Return the network that a contract measures."""
    return next(type(contract).subject.__wrapped__(contract))
