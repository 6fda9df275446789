"""A device whose pace drifts, on a clock of its own: what an interval is worth can be tried without
a device and without waiting. Warming, clock steps and correlated noise together; the amplitudes are
invented.
"""

import math
import random
from collections.abc import Callable

from nas.core.measurement import Device
from nas.measuring.meters import CommonMeter, HostLoad


class DriftingDevice(CommonMeter):
    """It gets slower by 1 to 4 % as it warms (time constant 20 to 90 s), its clock steps by 0.76 %
    about each 30 s, and every call has AR(1) noise (correlation 0.5) of standard deviation `noise`.
    Its clock moves with work only.
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
        """A network whose calls take so long at the start, without noise."""
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
        """The device's own clock."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def host_load(self) -> HostLoad | None:
        """There is no host."""
        return None

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Nothing is held."""
        run()
        return 0
