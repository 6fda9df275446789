"""A simulated device whose speed drifts, with its own clock, to test confidence intervals without
hardware and without waiting.

It warms up, its clock frequency changes in steps, and its noise is correlated. The amplitudes are
assumptions.
"""

import math
import random
from collections.abc import Callable

from nas.agent.host import HostLoad
from nas.core.measurement import Device
from nas.measuring.meters import Meter


class DriftingDevice(Meter):
    """A device that gets slower by 1 to 4 % as it warms up (time constant 20 to 90 s).

    Its speed steps by 0.76 % about every 30 s, and every call has AR(1) noise (correlation 0.5)
    of standard deviation `noise`. Its clock advances only while it works or sleeps.
    """

    torch_device = "cpu"
    clock = "simulated clock"
    energy_method = "none"
    memory_method = "none"

    def __init__(self, seed: int, noise: float) -> None:
        self.device = Device(
            kind="simulated", name="drifting", identity="simulated", device_class="simulated"
        )
        self.now_s = 0.0
        self._rng, self._noise = random.Random(seed), noise
        self._error, self._step, self._next_step_s = 0.0, 0.0, 0.0
        self._amplitude = self._rng.uniform(0.01, 0.04)
        self._tau_s = self._rng.uniform(20, 90)

    def network(self, seconds: float) -> Callable[[], None]:
        """Return a network whose call takes `seconds` at the start, without noise."""
        return lambda: self.sleep(seconds * self._pace())

    def _pace(self) -> float:
        if self.now_s >= self._next_step_s:
            self._step = 0.0076 * self._rng.randint(-1, 1)
            self._next_step_s = self.now_s + self._rng.expovariate(1 / 30)
        self._error = 0.5 * self._error + self._rng.gauss(0, self._noise)
        return (
            1
            + self._amplitude * (1 - math.exp(-self.now_s / self._tau_s))
            + self._step
            + self._error
        )

    def time_s(self) -> float:
        """Return the time of the device's own clock."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.now_s += seconds

    def host_load(self) -> HostLoad | None:
        """Return None, because there is no host."""
        return None

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Run it, and return 0, because the device has no memory."""
        run()
        return 0
