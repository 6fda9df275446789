"""Tests that every runtime of the group `nas.runtimes` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

import json
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.core.errors import TrialFailedError
from nas.core.measurement import Measurement, MeasurementPlan, minor_version
from nas.measuring.meters import Meter, find_meter
from nas.measuring.methods import Built, build, prepare
from nas.measuring.runtimes import Runtime
from nas.measuring.runtimes.eager import EAGER

PLAN = MeasurementPlan(runtime="contract", image_size=8)
THREADS = Path("/proc/self/task")
"""Linux's list of this process's threads."""
CALLS = 200
"""Calls in which the threads of a runtime are watched."""
MIN_SHARE = 0.05
"""A thread that does less of the work does not execute the network."""


class SmallNetwork(nn.Module):
    """A network with the same random weights for the same number."""

    def __init__(self, number: int, channels: int = 8) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            self.layers = nn.Sequential(
                nn.Conv2d(3, channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, 4, 1),
            )

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, 4)."""
        features: Tensor = self.layers(images).mean((2, 3))
        return features


class Failing(SmallNetwork):
    """A network with a mistake of its author's."""

    def forward(self, images: Tensor) -> Tensor:
        """Raise a `KeyError`."""
        return images * {"scale": 1.0}["scaling"]


class RuntimeContract(ABC):
    """Tests of one runtime."""

    tolerance = 1e-4
    """Largest difference from eager's outputs, as a share of the largest output."""
    networks = 40
    """Networks in one session."""

    @abstractmethod
    def make(self) -> Runtime:
        """Return the runtime."""

    def meter(self) -> Meter:
        """Return a new meter of the device that runs, by default the processor."""
        return find_meter("cpu")

    def build(
        self, network: nn.Module, plan: MeasurementPlan, meter: Meter, runtime: Runtime
    ) -> Built:
        """Build the network, or skip the test if this machine cannot run the plan."""
        if obstacle := runtime.obstacle(meter.device.kind, plan):
            pytest.skip(obstacle)
        return build(network, plan, meter, runtime)

    def outputs(self, built: Built, plan: MeasurementPlan, meter: Meter) -> list[Tensor]:
        """Return the outputs for the first three inputs, on the CPU."""
        with prepare(built, plan, meter) as run:
            return [_flat(run.loaded.tensors(run())).cpu() for _ in range(3)]

    def assert_equal_eagers(
        self, outputs: list[Tensor], network: nn.Module, plan: MeasurementPlan, meter: Meter
    ) -> None:
        """Compare with the outputs of eager PyTorch for the same inputs."""
        expected = self.outputs(build(network, plan, meter, EAGER), plan, meter)
        for output, eager in zip(outputs, expected, strict=True):
            assert output.shape == eager.shape
            assert (output - eager).abs().max() <= self.tolerance * eager.abs().max()

    @pytest.mark.parametrize("batch_size", [1, 3])
    def test_outputs_are_those_of_eager_pytorch(self, batch_size: int) -> None:
        """This holds for a batch of one image and of three, each with several inputs."""
        plan = MeasurementPlan(runtime="contract", image_size=8, batch_size=batch_size)
        network = SmallNetwork(0)
        with self.meter() as meter:
            outputs = self.outputs(self.build(network, plan, meter, self.make()), plan, meter)
            assert not outputs[0].equal(outputs[1])
            self.assert_equal_eagers(outputs, network, plan, meter)

    def test_each_of_many_networks_of_a_session_gives_its_own_outputs(self) -> None:
        """All are prepared before the first is called again, as in a search's certification."""
        networks = [SmallNetwork(number, channels=8 + number) for number in range(self.networks)]
        with self.meter() as meter, ExitStack() as prepared:
            built = [self.build(network, PLAN, meter, self.make()) for network in networks]
            runs = [prepared.enter_context(prepare(each, PLAN, meter)) for each in built]
            for _ in range(2):
                outputs = [[_flat(run.loaded.tensors(run())).cpu()] for run in runs]
            for output, network in zip(outputs, networks, strict=True):
                with prepare(build(network, PLAN, meter, EAGER), PLAN, meter) as eager:
                    for _ in range(2):
                        expected = _flat(eager())
                    assert (output[0] - expected.cpu()).abs().max() <= (
                        self.tolerance * expected.abs().max()
                    )

    def test_what_is_built_once_can_be_loaded_again(self) -> None:
        """Building changes neither the network nor its later use."""
        network = SmallNetwork(0)
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        with self.meter() as meter:
            built = self.build(network, PLAN, meter, self.make())
            first, second = (self.outputs(built, PLAN, meter) for _ in range(2))
        assert all(map(torch.equal, first, second))
        assert all(value.equal(weights[name]) for name, value in network.state_dict().items())
        assert network.training

    @pytest.mark.skipif(not THREADS.exists(), reason="this system does not list threads")
    @pytest.mark.parametrize("threads", [1, 2])
    def test_the_thread_count_is_obeyed(self, threads: int) -> None:
        """No more threads than the plan's execute the network, and with one thread it is one."""
        plan = MeasurementPlan(runtime="contract", image_size=64, threads=threads)
        network = SmallNetwork(0, channels=32)
        with self.meter() as meter:
            if meter.device.kind == "cuda":
                pytest.skip("a GPU ignores the plan's threads")
            built = self.build(network, plan, meter, self.make())
            with prepare(built, plan, meter) as run:
                run()
                before_ns = _worked_ns()
                for _ in range(CALLS):
                    run()
                worked_ns = {
                    thread: end - before_ns.get(thread, 0) for thread, end in _worked_ns().items()
                }
        share = MIN_SHARE * sum(worked_ns.values())
        working = [thread for thread, work_ns in worked_ns.items() if work_ns > share]
        assert 1 <= len(working) <= threads

    def test_a_figure_has_what_really_ran(self) -> None:
        """Runtime, version, precision, threads and streams are in its details. The version's major
        and minor number are in the device's class.
        """
        runtime = self.make()
        with self.meter() as meter:
            built = self.build(SmallNetwork(0), PLAN, meter, runtime)
            with prepare(built, PLAN, meter) as run:
                figure = run.with_runtime(_figure(meter))
        facts: dict[str, Any] = figure.details["runtime"]
        assert json.loads(json.dumps(facts)) == facts
        assert facts["package"] == runtime.package
        assert facts["version"] == runtime.version
        assert (facts["precision"], facts["threads"], facts["streams"]) == ("fp32", 1, 1)
        assert figure.device is not None
        version = f"{runtime.package} {minor_version(runtime.version)}"
        assert version in figure.device.device_class

    def test_any_error_of_a_network_is_one_line(self) -> None:
        """It fails the network's trial, and nothing else."""
        with self.meter() as meter:
            self.build(SmallNetwork(0), PLAN, meter, self.make())
            try:
                with prepare(build(Failing(0), PLAN, meter, self.make()), PLAN, meter):
                    pytest.fail("the network ran")
            except TrialFailedError as error:
                assert len(str(error).splitlines()) == 1  # noqa: PT017 - pytest is no dependency of the package

    def test_an_obstacle_is_a_reason_or_none(self) -> None:
        """The same question gets the same answer, for every kind of device."""
        for kind in ("cpu", "cuda"):
            first, second = (self.make().obstacle(kind, PLAN) for _ in range(2))
            assert first == second
            assert first is None or len(first.strip().splitlines()) == 1

    def test_torchs_settings_are_restored(self) -> None:
        """Threads and gradients are as before."""
        before = torch.get_num_threads(), torch.is_grad_enabled()
        plan = MeasurementPlan(runtime="contract", image_size=8, threads=2)
        with self.meter() as meter:
            built = self.build(SmallNetwork(0), plan, meter, self.make())
            with prepare(built, plan, meter) as run:
                run()
        assert (torch.get_num_threads(), torch.is_grad_enabled()) == before


def _flat(output: Any) -> Tensor:
    """Return the only tensor of an output."""
    if isinstance(output, list | tuple):
        (output,) = output
    tensor: Tensor = output
    return tensor


def _worked_ns() -> dict[str, int]:
    """Return how long each thread of this process has worked."""
    worked = {}
    for thread in THREADS.iterdir():
        try:
            worked[thread.name] = int((thread / "schedstat").read_text(encoding="utf-8").split()[0])
        except (FileNotFoundError, ProcessLookupError):  # the thread has ended
            continue
    return worked


def _figure(meter: Meter) -> Measurement:
    return Measurement(
        metric="latency", unit="s", value=1.0, method="none", device=meter.device, plan=PLAN
    )
