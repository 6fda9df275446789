"""A meter whose clock moves only when work is done, so that no test sleeps.

Its figures say nothing about a real machine.
"""

import math
import random
from collections.abc import Callable

from nas.agent.host import HostLoad
from nas.core.errors import UnavailableError
from nas.core.measurement import Device
from nas.measuring.meters import Meter
from nas.measuring.meters.live_tensors import peak_live_bytes
from nas.measuring.meters.watch import DeviceState


class FakeMeter(Meter):
    """A meter whose clock moves only by `work` and `sleep`.

    The device draws `power_w`. Its energy counter is updated every `step_s`, the first time at
    `phase_s`; without `power_w` there is no counter. `waited_s` and `foreign_s` are the host's
    load. `state_at` gives the state of the device at a time, and `busy_percent_at` how busy it is
    then. Tests may change all of these.
    """

    torch_device = "cpu"
    clock = "fake clock"
    energy_method = "fake counter"
    memory_method = "live tensors"

    def __init__(
        self, *, power_w: float | None = None, step_s: float = 0.1, phase_s: float = 0.0
    ) -> None:
        self.device = Device(kind="fake", name="fake", identity="fake-0", device_class="fake")
        self.now_s = 0.0
        self.waited_s = 0.0
        self.foreign_s = 0.0
        self.cores = 2
        self.state_at: Callable[[float], DeviceState | None] = lambda _: None
        self.busy_percent_at: Callable[[float], int | None] = lambda _: None
        self._power_w, self._step_s, self._phase_s = power_w, step_s, phase_s

    def work(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def network(self, seconds: float) -> Callable[[], None]:
        """Return a network whose calls take this long."""
        return lambda: self.work(seconds)

    def time_s(self) -> float:
        """Return the fake time."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def device_state(self) -> DeviceState | None:
        """Return the state from `state_at`."""
        return self.state_at(self.now_s)

    def busy_percent(self) -> int | None:
        """Return the percentage from `busy_percent_at`."""
        return self.busy_percent_at(self.now_s)

    def energy_j(self) -> float:
        """Return the energy at the counter's last step; it starts at 1 J."""
        if self._power_w is None:
            raise UnavailableError("the fake meter has no energy counter")
        steps = math.floor((self.now_s - self._phase_s) / self._step_s)
        return 1 + self._power_w * (self._phase_s + steps * self._step_s)

    def host_load(self) -> HostLoad:
        """Return the load that the test has set."""
        return HostLoad(waited_s=self.waited_s, foreign_s=self.foreign_s, cores=self.cores)

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Return the peak of the real bytes of real tensors."""
        return peak_live_bytes(run)


class SharedCpu(FakeMeter):
    """The CPU of a virtual machine with a changing speed.

    The time of everything that runs on it changes by a factor, with the deviation `spread` (a
    share), several times a second.
    """

    def __init__(self, seed: int = 0, spread: float = 0.03) -> None:
        super().__init__()
        self.device = Device(
            kind="cpu",
            name="fake",
            identity="fake-0",
            device_class="fake",
            details={"hypervisor": "KVM"},
        )
        self._rng, self._spread, self._pace, self._until_s = random.Random(seed), spread, 1.0, 0.0

    def network(self, seconds: float) -> Callable[[], None]:
        """Return a network whose calls take this long at the first speed."""

        def call() -> None:
            if self.now_s >= self._until_s:
                self._pace = min(
                    max(self._pace * math.exp(self._rng.gauss(0, self._spread)), 0.8), 1.6
                )
                self._until_s = self.now_s + self._rng.uniform(0.05, 0.4)
            self.work(seconds * self._pace)

        return call
