"""Energy while a device works, by the best method that its sensors offer.

Theory of operation. A GPU's energy counter moves only every 20 to 100 ms, so a window cut at any
moment has an error of T / (sqrt(6) W): 4.1 % rms at 1 s. The methods, best first, each with its own
name, which is stored with the figure:

* *Windows from step to step* of the counter. If the work comes in pieces of a few milliseconds, the
  counter is *watched* until it moves. Otherwise, and for counters that lose energy when they are
  read often (an RTX 4090's: 75 % at a reading every 10 ms, Dauner et al., HotCarbon 2026), windows
  are *phase-locked*: the counter's period and phase are found first, then a reading well between
  two steps has the value that the counter had at the last step.
* *Instant power*, then *power averaged over 1 s*, integrated by trapezoids over 10 s. On an A100 or
  H100 the instant sensor sees 25 ms of every 100 ms, so the load must be steady (Yang et al.,
  SC'24).

The method is chosen once for a sensor, at its first load, and the reasons against better methods
are stored. After that a fault is an error: the figure has a reason and no value, and no other
method replaces the chosen one, since methods differ by more than networks do. Absolute energies of
a board are accurate to about 5 % (SC'24); ratios on one board do not depend on that gain.
"""

import random
import statistics
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol

from nas.core.errors import UnavailableError

Work = Callable[[], float]
"""Keeps the device busy for a moment, waits until it is done, and returns the number of frames."""

Mark = tuple[float, float]
"""A time in seconds and the joules drawn by then."""

EVERY_READING, WATCHED, PHASE_LOCKED = "every reading", "watched", "phase-locked"
"""The alignments of windows to a counter, as stored with a figure."""
INSTANT, AVERAGE, RAIL = "instant", "average", "rail"
"""The kinds of power sensors."""
POWER_METHODS = {
    INSTANT: "nvml instant power, board, summed",
    AVERAGE: "nvml power averaged over 1 s, board, summed",
    RAIL: "ina3221 power of the input rails, summed",
}
"""The methods that integrate power, as stored with a figure."""

WINDOW_S = 1.0
"""Shortest window by a counter."""
POWER_WINDOW_S = 2.5
"""Shortest window by integrated power."""
SETTLE_S = {INSTANT: 0.2, AVERAGE: 1.2, RAIL: 0.2}
"""Work before power is integrated, while the sensor still shows earlier power."""
WARM_UP_S = 0.5
"""Work before the first mark of phase-locked windows. The device may have idled while the rhythm
was found, and its clocks may have fallen. Segments of latency drop as much (`Cycles.dropped_s`).
"""

MIN_STEPS, MIN_RHYTHM_S = 11, 1.0
"""Fewest steps and shortest time to find a rhythm. The period is then known to 0.06 % with steps of
100 ms.
"""

MAX_STEP_S = 0.5
"""A counter that does not move for this long under load is broken. Known counters step every 1 to
200 ms.
"""

MAX_JITTER = 0.1
"""Largest deviation of a step from the rhythm, as a share of the period."""
MAX_PIECE_S = 0.005
"""Longer pieces of work leave the moment of a step too uncertain: half of this is 0.25 % of a
window.
"""

MAX_LOCK_TRIES = 100
"""Pieces of work after which none has ended well between two steps."""

MAX_LOSS = 0.05
"""A counter that shows less power by more than this share when it is read often is disturbed by
reading.
"""

POLL_S = 0.002
"""Time between two readings of a counter that is watched."""
SAMPLE_INTERVAL_S = (0.05, 0.1)
"""Bounds of the time between two readings of power. It is random, so that readings do not follow a
rhythm of the work.
"""


class Sensor(Protocol):
    """A source of energy or power readings.

    `power_kinds` are the power sensors that it may have, of "instant" and "average".
    """

    energy_method: str
    power_kinds: tuple[str, ...]

    def time_s(self) -> float:
        """Return the time of a monotonic clock in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def energy_j(self) -> float:
        """Return joules since a fixed moment. Raises `UnavailableError` with the reason."""

    def power_w(self, kind: str) -> float:
        """Return watts by one of `power_kinds`. Raises `UnavailableError` with the reason."""

    def max_power_w(self) -> float | None:
        """Return the device's power limit in watts, None if it is unknown."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Joules and frames of one stretch of time under load."""

    energy_j: float
    seconds: float
    frames: float


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The rhythm of a counter: steps at `origin_s` and every `period_s` after it.

    Steps deviate by at most `spread` periods, as seen in readings every `poll_s`. `shown_w` is the
    power that the counter showed meanwhile.
    """

    period_s: float
    origin_s: float
    spread: float
    poll_s: float
    shown_w: float

    @property
    def continuous(self) -> bool:
        """True if the counter moves at every reading or every second one."""
        return self.period_s <= 2 * self.poll_s

    def before(self, now_s: float) -> tuple[float, float]:
        """Return the time of the last step, and the present phase in its period, from 0 to 1."""
        count, phase = divmod((now_s - self.origin_s) / self.period_s, 1)
        return self.origin_s + count * self.period_s, phase


class Load:
    """A device kept busy, with a log of the frames done at each time."""

    def __init__(self, sensor: Sensor, work: Work) -> None:
        self._sensor, self._work = sensor, work
        self._times_s, self._frames = [sensor.time_s()], [0.0]

    def piece(self) -> float:
        """Do a piece of work and return the time at its end."""
        done = self._work()
        self._times_s.append(self._sensor.time_s())
        self._frames.append(self._frames[-1] + done)
        return self._times_s[-1]

    def until(self, end_s: float) -> None:
        """Work until then without reading the counter."""
        while self._sensor.time_s() < end_s:
            self.piece()

    def has_short_pieces(self) -> bool:
        """Return whether pieces are short enough to watch a counter between them, by the median of
        three.
        """
        times = [self._sensor.time_s(), *(self.piece() for _ in range(3))]
        return statistics.median(b - a for a, b in pairwise(times)) <= MAX_PIECE_S

    def frames_at(self, moment_s: float) -> float:
        """Return the frames done by then, interpolated linearly within a piece."""
        after = min(max(bisect_right(self._times_s, moment_s), 1), len(self._times_s) - 1)
        before_s, after_s = self._times_s[after - 1 : after + 1]
        frames_before, frames_after = self._frames[after - 1 : after + 1]
        share = (moment_s - before_s) / (after_s - before_s)
        return frames_before + (frames_after - frames_before) * share


Method = Callable[[Load, int, float], list[Window]]
"""Turns a load, a number of windows and their seconds into the windows."""


class EnergyReader:
    """Takes windows of energy from one sensor, all by the same method."""

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self._take: Method | None = None
        self._source = "energy counter"
        self._steps: Steps | None = None
        self._disturbed: bool | None = None
        self.method, self.alignment = sensor.energy_method, ""
        self.rejections: list[str] = []
        """Reasons why better methods were not taken."""

    def unavailable_reason(self) -> str | None:
        """Return why energy cannot be read by any method, None if one sensor can be read.

        Takes readings to find out.
        """
        powers = [_power_reading(self._sensor, kind) for kind in self._sensor.power_kinds]
        reasons = []
        for read in (self._sensor.energy_j, *powers):
            try:
                read()
            except UnavailableError as error:
                reasons.append(str(error))
            else:
                return None
        return "; ".join(dict.fromkeys(reasons))

    def windows(self, work: Work, count: int, seconds: float = WINDOW_S) -> list[Window]:
        """Take `count` windows of at least `seconds`, one after another; of at least 2.5 s if power
        is integrated. The device must be warm.

        Raises `UnavailableError` with the reason. The chosen method stays chosen after an error.
        """
        load = Load(self._sensor, work)
        if self._take is None:
            self._take = self._choose(load)
        limit_w = self._sensor.max_power_w()
        windows = self._take(load, count, seconds)
        for window in windows:
            _check(window, limit_w, self._source)
        return windows

    def details(self) -> dict[str, object]:
        """Return how the energy was read, for the record."""
        period = {"counter_period_s": self._steps.period_s} if self._steps else {}
        return {"alignment": self.alignment, "passed_over": list(self.rejections), **period}

    def _choose(self, load: Load) -> Method:
        self.rejections.clear()
        try:
            return self._counter_method(load)
        except UnavailableError as error:
            self.rejections.append(str(error))
        for kind in self._sensor.power_kinds:
            read = _power_reading(self._sensor, kind)
            try:
                read()
            except UnavailableError as error:
                self.rejections.append(str(error))
            else:
                self.method, self._source = POWER_METHODS[kind], f"{kind} power"
                return partial(self._integrate_power, read, SETTLE_S[kind])
        raise UnavailableError("; ".join(dict.fromkeys(self.rejections)))

    def _counter_method(self, load: Load) -> Method:
        """Return the method by the counter.

        Raises `UnavailableError` for a counter that cannot be trusted.
        """
        self._steps = steps = self._find_steps(load)
        if not steps.continuous and steps.spread > MAX_JITTER:
            raise UnavailableError(
                "the energy counter has no rhythm: its steps of "
                f"{steps.period_s * 1e3:.0f} ms vary by {steps.spread:.0%}"
            )
        self.method = f"{self._sensor.energy_method}, windows from step to step"
        return partial(self._by_counter, steps)

    def _by_counter(self, steps: Steps, load: Load, count: int, seconds: float) -> list[Window]:
        """Take windows by the counter with the alignment that suits this load."""
        if steps.continuous:
            self.alignment = EVERY_READING
            return self._between_marks(self._reading, load, count, seconds)
        if load.has_short_pieces() and not self._loses_energy(load):
            self.alignment = WATCHED
            return self._between_marks(self._next_step, load, count, seconds)
        self.alignment = PHASE_LOCKED
        return self._phase_locked(load, count, seconds)

    def _find_steps(self, load: Load) -> Steps:
        """Find the rhythm under load if its pieces are short, otherwise on the idle device."""
        if load.has_short_pieces():
            return find_steps(self._sensor, load.piece)
        return find_steps(self._sensor, lambda: self._sensor.sleep(POLL_S))

    def _loses_energy(self, load: Load) -> bool:
        """Return whether the counter shows less power while it is watched than otherwise.

        This is tried once, under the first load.
        """
        if self._disturbed is None:
            watched_w = self._find_steps(load).shown_w
            window = self._phase_locked(load, 1, WINDOW_S)[0]
            self._disturbed = watched_w < (1 - MAX_LOSS) * window.energy_j / window.seconds
            if self._disturbed:
                self.rejections.append("the energy counter loses energy when it is read often")
        return self._disturbed

    def _between_marks(
        self, mark: Callable[[Load], Mark], load: Load, count: int, seconds: float
    ) -> list[Window]:
        marks = [mark(load)]
        for _ in range(count):
            load.until(marks[-1][0] + seconds)
            marks.append(mark(load))
        load.piece()
        return _windows(load, marks)

    def _reading(self, load: Load) -> Mark:
        """Mark the present reading of a counter that moves at every reading."""
        return load.piece(), self._sensor.energy_j()

    def _next_step(self, load: Load) -> Mark:
        """Mark the counter's next step."""
        first_j, before_s = self._sensor.energy_j(), self._sensor.time_s()
        end_s = before_s + MAX_STEP_S
        while (now_j := self._read_after(load)) == first_j:
            before_s = self._sensor.time_s()
            if before_s > end_s:
                raise UnavailableError(
                    f"the energy counter stood still for {MAX_STEP_S} s under load"
                )
        return (before_s + self._sensor.time_s()) / 2, now_j

    def _read_after(self, load: Load) -> float:
        load.piece()
        return self._sensor.energy_j()

    def _phase_locked(self, load: Load, count: int, seconds: float) -> list[Window]:
        """Take windows between readings that have the value of the counter's last step.

        The rhythm is found again every time, since its phase is lost within minutes.
        """
        self._steps = steps = self._find_steps(load)
        load.until(self._sensor.time_s() + WARM_UP_S)

        def mark(load: Load) -> Mark:
            for _ in range(MAX_LOCK_TRIES):
                step_s, phase = steps.before(load.piece())
                if 0.25 <= phase <= 0.75:
                    return step_s, self._sensor.energy_j()
            raise UnavailableError(
                "the work never ended well between two steps of the energy counter"
            )

        return self._between_marks(mark, load, count, seconds)

    def _integrate_power(
        self, read: Callable[[], float], settle_s: float, load: Load, count: int, seconds: float
    ) -> list[Window]:
        """Take windows by integrating power with trapezoids."""
        rng = random.Random(0)
        load.until(self._sensor.time_s() + settle_s)
        energy_j, (time_s, power_w) = 0.0, (self._sensor.time_s(), read())
        marks = [(time_s, energy_j)]
        while len(marks) <= count:
            load.until(time_s + rng.uniform(*SAMPLE_INTERVAL_S))
            now_s, now_w = self._sensor.time_s(), read()
            energy_j += (now_s - time_s) * (now_w + power_w) / 2
            time_s, power_w = now_s, now_w
            if time_s >= marks[-1][0] + max(seconds, POWER_WINDOW_S):
                marks.append((time_s, energy_j))
        load.piece()
        return _windows(load, marks)


def find_steps(sensor: Sensor, wait: Callable[[], object]) -> Steps:
    """Find the counter's rhythm. `wait` lets a moment pass, under load or idle.

    Raises `UnavailableError` for a counter that stands still or goes back, and with the sensor's
    own reason.
    """
    moments: list[float] = []
    shown_j = [sensor.energy_j()]
    begin_s = before_s = last_s = sensor.time_s()
    readings = 0
    while len(moments) < MIN_STEPS or before_s - begin_s < MIN_RHYTHM_S:
        wait()
        now_s, now_j = sensor.time_s(), sensor.energy_j()
        readings += 1
        if now_j < shown_j[-1]:
            raise UnavailableError(_went_back(shown_j[-1] - now_j))
        if now_j > shown_j[-1]:
            last_s = (before_s + now_s) / 2
            moments.append(last_s)
            shown_j.append(now_j)
        elif now_s - last_s > MAX_STEP_S:
            raise UnavailableError(f"the energy counter stood still for {MAX_STEP_S} s")
        before_s = now_s
    period_s, origin_s = statistics.linear_regression(range(len(moments)), moments)
    poll_s = (before_s - begin_s) / readings
    off_s = max(abs(moment - origin_s - count * period_s) for count, moment in enumerate(moments))
    return Steps(
        period_s=period_s,
        origin_s=origin_s,
        spread=max(0.0, off_s - poll_s) / period_s,
        poll_s=poll_s,
        shown_w=(shown_j[-1] - shown_j[1]) / (moments[-1] - moments[0]),
    )


def _went_back(energy_j: float) -> str:
    return f"the energy counter went back by {energy_j:.0f} J: it was reset or wrapped"


def _power_reading(sensor: Sensor, kind: str) -> Callable[[], float]:
    """Return a function that reads watts and refuses those that no working device draws."""

    def read() -> float:
        watts = sensor.power_w(kind)
        if watts <= 0:
            raise UnavailableError(f"the {kind} power reads {watts:g} W, so it is not measured")
        return watts

    return read


def _windows(load: Load, marks: list[Mark]) -> list[Window]:
    """Return the windows between successive marks."""
    return [
        Window(
            energy_j=end_j - begin_j,
            seconds=end_s - begin_s,
            frames=load.frames_at(end_s) - load.frames_at(begin_s),
        )
        for (begin_s, begin_j), (end_s, end_j) in pairwise(marks)
    ]


def _check(window: Window, limit_w: float | None, source: str) -> None:
    """Raise `UnavailableError` for an impossible energy from this source."""
    if window.energy_j < 0:
        raise UnavailableError(_went_back(-window.energy_j))
    if window.energy_j == 0:
        raise UnavailableError(
            f"the energy counter stood still for {window.seconds:.1f} s under load"
        )
    power_w = window.energy_j / window.seconds
    if limit_w and power_w > 1.2 * limit_w:
        raise UnavailableError(
            f"the {source} jumped: {power_w:.0f} W on a device of at most {limit_w:.0f} W"
        )
