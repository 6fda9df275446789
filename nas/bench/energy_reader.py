"""Errors of the energy reader on a board of known, constant power whose counter advances in steps.

    errors = energy_errors(CountingBoard(250), 250)

The sensor may be any one whose `sleep` advances its clock: the board here, or NVML's sensor on a
stand-in for the driver's library.
"""

import math
import random
from dataclasses import dataclass

from nas.measuring.meters import Meter
from nas.measuring.meters.energy import EnergyReader, Load, Sensor

FRAMES_PER_S = 1000
"""Frames of work in each second of the sensor's clock."""
SESSIONS = 50
"""Default number of sessions."""


class CountingBoard(Meter):
    """A board of constant power with its own clock. The counter advances every `period_s`, first at
    `phase_s`.
    """

    energy_method = "simulated counter"

    def __init__(self, draws_w: float, period_s: float = 0.1, phase_s: float = 0.037) -> None:
        self._draws_w, self._period_s, self._phase_s = draws_w, period_s, phase_s
        self._now_s, self._rng = 0.0, random.Random(0)

    def time_s(self) -> float:
        """Return the time of the board's own clock."""
        return self._now_s

    def sleep(self, seconds: float) -> None:
        """Advance the clock at once, by a little more than `seconds`, as operating systems do."""
        self._now_s += seconds * self._rng.uniform(1, 1.2)

    def energy_j(self) -> float:
        """Return the joules at the last step of the counter, which starts at 1 kJ."""
        return 1000 + self._draws_w * self._period_s * math.floor(
            (self._now_s - self._phase_s) / self._period_s
        )


@dataclass(frozen=True, kw_only=True)
class EnergyErrors:
    """Errors of joules per frame as shares of the true value, one for each window."""

    alignment: str
    """Method by which the reader aligned its windows with the counter."""
    reader: tuple[float, ...]
    """Errors of the energy reader."""
    naive: tuple[float, ...]
    """Errors of the usual method: two readings of the counter, at the ends of any window."""


def energy_errors(
    sensor: Sensor,
    draws_w: float,
    *,
    piece_s: float = 0.002,
    sessions: int = SESSIONS,
) -> EnergyErrors:
    """Return the errors in windows of 1.0 to 1.1 s, at random.

    The work comes in pieces of `piece_s`, give or take a fifth. In each session a new reader finds
    the period and phase of the counter. Raises `UnavailableError` as the reader does.
    """
    rng = random.Random(0)
    truth_j = draws_w / FRAMES_PER_S

    def work() -> float:
        begin_s = sensor.time_s()
        sensor.sleep(piece_s * rng.uniform(0.8, 1.2))
        return (sensor.time_s() - begin_s) * FRAMES_PER_S

    ours, naive = [], []
    for _ in range(sessions):
        sensor.sleep(rng.random())
        seconds = 1.0 + rng.uniform(0, 0.1)
        begin_j, begin_s = sensor.energy_j(), sensor.time_s()
        Load(sensor, work).until(begin_s + seconds)
        frames = (sensor.time_s() - begin_s) * FRAMES_PER_S
        naive.append((sensor.energy_j() - begin_j) / frames / truth_j - 1)
        reader = EnergyReader(sensor)
        ours += [
            window.energy_j / window.frames / truth_j - 1
            for window in reader.windows(work, 1, seconds)
        ]
    return EnergyErrors(alignment=reader.alignment, reader=tuple(ours), naive=tuple(naive))


def rms(errors: tuple[float, ...]) -> float:
    """Return the root of the mean square."""
    return math.sqrt(sum(error**2 for error in errors) / len(errors))
