"""A meter whose clock moves only when work is done, so that no test sleeps. Its figures say nothing
about a machine.
"""

import math
import random
from collections.abc import Callable

from nas.core.errors import UnavailableError
from nas.core.measurement import Device
from nas.measuring.meters import CommonMeter, HostLoad
from nas.measuring.meters.live_tensors import peak_live_bytes
from nas.measuring.meters.watch import DeviceState


class FakeMeter(CommonMeter):
    """Time passes by `work`; the device draws `power_w`, which its counter shows each `step_s`,
    first at `phase_s`.

    Without `power_w` there is no energy counter. `waited_s` and `foreign_s` are the host's load,
    `tells` what a look at the device sees at a moment, `busy` how busy it was then in percent; all
    are free to change.
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
        """A network whose calls take so long."""
        return lambda: self.work(seconds)

    def time_s(self) -> float:
        """The fake clock."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    def device_state(self) -> DeviceState | None:
        """What `tells` says."""
        return self.state_at(self.now_s)

    def busy_percent(self) -> int | None:
        """What `busy` says."""
        return self.busy_percent_at(self.now_s)

    def energy_j(self) -> float:
        """What the counter shows: the energy at its last step, from 1 J at the start."""
        if self._power_w is None:
            raise UnavailableError("the fake meter has no energy counter")
        steps = math.floor((self.now_s - self._phase_s) / self._step_s)
        return 1 + self._power_w * (self._phase_s + steps * self._step_s)

    def host_load(self) -> HostLoad:
        """What the test has set."""
        return HostLoad(waited_s=self.waited_s, foreign_s=self.foreign_s, cores=self.cores)

    def peak_memory_bytes(self, run: Callable[[], object]) -> int:
        """Real bytes of real tensors."""
        return peak_live_bytes(run)


class SharedCpu(FakeMeter):
    """The CPU of a virtual machine: the pace of all that runs on it wanders, by `spread` (a share)
    several times a second.
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
        """A network whose calls take so long at the first pace."""

        def call() -> None:
            if self.now_s >= self._until_s:
                self._pace = min(
                    max(self._pace * math.exp(self._rng.gauss(0, self._spread)), 0.8), 1.6
                )
                self._until_s = self.now_s + self._rng.uniform(0.05, 0.4)
            self.work(seconds * self._pace)

        return call
