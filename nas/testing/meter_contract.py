"""Tests that every meter of the group `nas.meters` must pass.

Derive a test class, define `make`, and let pytest collect it.
"""

from abc import ABC, abstractmethod

import torch

from nas.core.errors import UnavailableError
from nas.measuring.meters import Meter

MEBIBYTE = 2**20


class MeterContract(ABC):
    """Tests of one kind of meter."""

    @abstractmethod
    def make(self) -> Meter:
        """Return a new meter, of the same physical device each time."""

    def test_it_is_a_meter(self) -> None:
        """It is one, and names its methods."""
        with self.make() as meter:
            assert isinstance(meter, Meter)
            assert all((meter.clock, meter.energy_method, meter.memory_method))
            assert torch.empty(1, device=meter.torch_device).device == torch.device(
                meter.torch_device
            )

    def test_the_device_keeps_its_identity(self) -> None:
        """Two meters of one device report the same device and class."""
        with self.make() as one, self.make() as other:
            assert one.device.identity
            assert one.device.device_class
            assert (one.device.identity, one.device.device_class) == (
                other.device.identity,
                other.device.device_class,
            )

    def test_the_clock_never_goes_back(self) -> None:
        """A thousand readings are in order."""
        with self.make() as meter:
            readings = [meter.time_s() for _ in range(1000)]
        assert readings == sorted(readings)

    def test_energy_grows_or_is_unavailable_for_a_reason(self) -> None:
        """Without a reason, the counter does not fall, or power is measured. With a reason, reading
        the counter raises a part of that reason.

        A missing sensor never gives 0 J.
        """
        with self.make() as meter:
            reason = meter.energy_unavailable_reason()
            try:
                first_j, second_j = meter.energy_j(), meter.energy_j()
            except UnavailableError as error:
                assert reason is None or str(error) in reason  # noqa: PT017 - pytest is no dependency of the package
                assert reason or any(meter.power_w(kind) > 0 for kind in meter.power_kinds)
            else:
                assert reason is None
                assert 0 <= first_j <= second_j

    def test_the_host_load_grows(self) -> None:
        """The time that processes waited never falls by more than the kernel's tick, and there is
        at least one core. The load may also be unknown.
        """
        with self.make() as meter:
            first, second = meter.host_load(), meter.host_load()
        if first is not None and second is not None:
            assert second.waited_s >= first.waited_s - 0.02
            assert second.cores >= 1

    def test_peak_memory_is_that_of_live_tensors(self) -> None:
        """Two tensors of 1 MiB that exist together take 2 MiB, one after the other 1 MiB, and a
        second call returns the same.
        """
        with self.make() as meter:

            def one() -> None:
                torch.empty(MEBIBYTE, dtype=torch.uint8, device=meter.torch_device)

            def one_after_the_other() -> None:
                one()
                one()

            def both() -> tuple[torch.Tensor, torch.Tensor]:
                first = torch.empty(MEBIBYTE, dtype=torch.uint8, device=meter.torch_device)
                return first, torch.ones_like(first)

            peaks = [meter.peak_memory_bytes(run) for run in (both, one_after_the_other, both)]
        assert peaks == [2 * MEBIBYTE, MEBIBYTE, 2 * MEBIBYTE]

    def test_work_in_place_takes_no_memory(self) -> None:
        """In-place operations and views add nothing to the memory of their tensor."""
        with self.make() as meter:

            def in_place() -> torch.Tensor:
                return (
                    torch.empty(MEBIBYTE, device=meter.torch_device).fill_(-1).relu_().view(2, -1)
                )

            assert meter.peak_memory_bytes(in_place) == 4 * MEBIBYTE

    def test_closing_twice_is_harmless(self) -> None:
        """The second call of `close` does nothing."""
        meter = self.make()
        meter.close()
        meter.close()
