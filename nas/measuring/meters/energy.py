"""Joules while a device works, by the best way its sensors offer: the energy ladder.

Theory of operation. A GPU's energy counter moves only each 20 to 100 ms, so a window cut anywhere
has an error of T / (sqrt(6) W): 4.1 % rms at 1 s. The ways, best first, each with its own name,
stored with the figure:

* *windows from step to step* of the counter. It is *watched* until it moves where the work comes in
  pieces of a few milliseconds. Else, and for counters that lose energy when they are read often (an
  RTX 4090's: 75 % at a reading each 10 ms, Dauner et al., HotCarbon 2026), windows are
  *phase-locked*: the counter's period and phase are found first, then a reading well between two
  steps is worth what the counter had at the last one.
* *instant power*, then *power averaged over 1 s*, summed by trapezoids over 10 s. On an A100 or
  H100 the instant sensor sees 25 ms of each 100 ms, so the load must be steady (Yang et al.,
  SC'24).

The way is chosen once for a sensor, at its first load; why better ones were passed over is kept.
After that a fault is a fault: the figure has a reason and no value, and no other way steps in,
since ways differ by more than networks do. Absolute joules of a board are good to about 5 %
(SC'24); ratios on one board are free of that gain.
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
"""Keeps the device busy for a moment, to its end, and gives the frames done."""

Mark = tuple[float, float]
"""A time in seconds and the joules that were drawn by then."""

EVERY_READING, WATCHED, PHASE_LOCKED = "every reading", "watched", "phase-locked"
INSTANT, AVERAGE = "instant", "average"
POWER_WAYS = {
    INSTANT: "nvml instant power, board, summed",
    AVERAGE: "nvml power averaged over 1 s, board, summed",
}

WINDOW_S = 1.0
POWER_WINDOW_S = 2.5
SETTLE_S = {INSTANT: 0.2, AVERAGE: 1.2}
"""Dropped before power is summed: what the sensor still remembers of the time before."""

STEPS, WATCHED_S = 11, 1.0
"""At least so many steps and seconds fix the rhythm: the period to 0.06 % with steps of 100 ms."""

MAX_STEP_S = 0.5
"""A counter that does not move for so long under load is broken; known ones step each 1 to
200 ms.
"""

MAX_JITTER = 0.1
MAX_PIECE_S = 0.005
"""Longer pieces of work leave the moment of a step too uncertain: half of this is 0.25 % of a
window.
"""

LOCK_TRIES = 100

MAX_LOSS = 0.05
"""A counter that shows so much less power while it is read often than while it is not, is disturbed
by reading.
"""

POLL_S = 0.002
SAMPLE_S = (0.05, 0.1)
"""Between two readings of power, drawn at random so that no rhythm of the work is met."""


class Sensor(Protocol):
    """What tells joules or watts. `power_kinds` are those of "instant" and "average" that it may
    know.
    """

    energy_method: str
    power_kinds: tuple[str, ...]

    def time_s(self) -> float:
        """A monotonic clock in seconds."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def energy_j(self) -> float:
        """Joules since a fixed moment. Raises `UnavailableError` with the reason."""

    def power_w(self, kind: str) -> float:
        """Watts, of one of `power_kinds`. Raises `UnavailableError` with the reason."""

    def max_power_w(self) -> float | None:
        """What the device may draw at most, None where that is unknown."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Joules and frames of one stretch of time under load."""

    energy_j: float
    seconds: float
    frames: float


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The rhythm of a counter: steps at `origin_s` and each `period_s` after it, off by `spread`
    periods at most, as seen in readings each `poll_s`; `shown_w` is the power that the counter
    showed meanwhile.
    """

    period_s: float
    origin_s: float
    spread: float
    poll_s: float
    shown_w: float

    @property
    def continuous(self) -> bool:
        """Whether the counter moves at every reading or two."""
        return self.period_s <= 2 * self.poll_s

    def before(self, now_s: float) -> tuple[float, float]:
        """The last step's time and how far into its period the moment is, from 0 to 1."""
        count, phase = divmod((now_s - self.origin_s) / self.period_s, 1)
        return self.origin_s + count * self.period_s, phase


class Load:
    """A device kept busy, with a log of the frames done by when."""

    def __init__(self, sensor: Sensor, work: Work) -> None:
        self._sensor, self._work = sensor, work
        self._times_s, self._frames = [sensor.time_s()], [0.0]

    def piece(self) -> float:
        """Do a piece of work; the time at its end."""
        done = self._work()
        self._times_s.append(self._sensor.time_s())
        self._frames.append(self._frames[-1] + done)
        return self._times_s[-1]

    def until(self, end_s: float) -> None:
        """Work on, the counter left alone."""
        while self._sensor.time_s() < end_s:
            self.piece()

    def short(self) -> bool:
        """Whether its pieces are short enough to watch a counter between them, by the median of
        three.
        """
        times = [self._sensor.time_s(), *(self.piece() for _ in range(3))]
        return statistics.median(b - a for a, b in pairwise(times)) <= MAX_PIECE_S

    def frames_at(self, moment_s: float) -> float:
        """Frames done by then, linear within a piece."""
        after = min(max(bisect_right(self._times_s, moment_s), 1), len(self._times_s) - 1)
        (before_s, after_s), (before, done) = (
            self._times_s[after - 1 : after + 1],
            self._frames[after - 1 : after + 1],
        )
        return before + (done - before) * (moment_s - before_s) / (after_s - before_s)


Way = Callable[[Load, int, float], list[Window]]
"""From a load, a number of windows and their seconds to the windows."""


class EnergyReader:
    """Windows of joules from one sensor, all by the same way."""

    def __init__(self, sensor: Sensor) -> None:
        self._sensor = sensor
        self._way: Way | None = None
        self._steps: Steps | None = None
        self._disturbed: bool | None = None
        self.method, self.alignment = sensor.energy_method, ""
        self.passed_over: list[str] = []
        """Why better ways were not taken."""

    def unavailable_reason(self) -> str | None:
        """Why there is no way to joules, None where something can be read. Takes readings to find
        out.
        """
        reasons = []
        for read in (
            self._sensor.energy_j,
            *(_power(self._sensor, kind) for kind in self._sensor.power_kinds),
        ):
            try:
                read()
            except UnavailableError as error:
                reasons.append(str(error))
            else:
                return None
        return "; ".join(dict.fromkeys(reasons))

    def windows(self, work: Work, count: int, seconds: float = WINDOW_S) -> list[Window]:
        """That many windows of so many seconds or a little more, one after another; 2.5 s at least
        where power is summed. The device must be warm. Raises `UnavailableError` with the reason,
        and then the way stays chosen.
        """
        load = Load(self._sensor, work)
        if self._way is None:
            self._way = self._choose(load)
        limit_w = self._sensor.max_power_w()
        windows = self._way(load, count, seconds)
        for window in windows:
            _check(window, limit_w)
        return windows

    def details(self) -> dict[str, object]:
        """How the joules come about, for the record."""
        period = {"counter_period_s": self._steps.period_s} if self._steps else {}
        return {"alignment": self.alignment, "passed_over": list(self.passed_over), **period}

    def _choose(self, load: Load) -> Way:
        self.passed_over.clear()
        try:
            return self._counter(load)
        except UnavailableError as error:
            self.passed_over.append(str(error))
        for kind in self._sensor.power_kinds:
            try:
                _power(self._sensor, kind)()
            except UnavailableError as error:
                self.passed_over.append(str(error))
            else:
                self.method = POWER_WAYS[kind]
                return partial(self._summed, _power(self._sensor, kind), SETTLE_S[kind])
        raise UnavailableError("; ".join(dict.fromkeys(self.passed_over)))

    def _counter(self, load: Load) -> Way:
        """Windows by the counter. Raises `UnavailableError` for one that cannot be trusted."""
        self._steps = steps = self._rhythm(load)
        if not steps.continuous and steps.spread > MAX_JITTER:
            raise UnavailableError(
                f"the energy counter has no rhythm: its steps of {steps.period_s * 1e3:.0f} ms vary "
                f"by {steps.spread:.0%}"
            )
        self.method = f"{self._sensor.energy_method}, windows from step to step"
        return partial(self._aligned, steps)

    def _aligned(self, steps: Steps, load: Load, count: int, seconds: float) -> list[Window]:
        """By the alignment that suits this load."""
        if steps.continuous:
            self.alignment = EVERY_READING
            return self._marked(self._reading, load, count, seconds)
        if load.short() and not self._loses(load):
            self.alignment = WATCHED
            return self._marked(self._next_step, load, count, seconds)
        self.alignment = PHASE_LOCKED
        return self._phase_locked(load, count, seconds)

    def _rhythm(self, load: Load) -> Steps:
        """Watched under load where its pieces are short, else on the idle device."""
        return find_steps(
            self._sensor, load.piece if load.short() else lambda: self._sensor.sleep(POLL_S)
        )

    def _loses(self, load: Load) -> bool:
        """Whether the counter shows more power left alone than while it was watched. Asked once,
        under a load.
        """
        if self._disturbed is None:
            watched_w = self._rhythm(load).shown_w
            window = self._phase_locked(load, 1, WINDOW_S)[0]
            self._disturbed = watched_w < (1 - MAX_LOSS) * window.energy_j / window.seconds
            if self._disturbed:
                self.passed_over.append("the energy counter loses energy when it is read often")
        return self._disturbed

    def _marked(
        self, mark: Callable[[Load], Mark], load: Load, count: int, seconds: float
    ) -> list[Window]:
        """Windows between marks."""
        marks = [mark(load)]
        for _ in range(count):
            load.until(marks[-1][0] + seconds)
            marks.append(mark(load))
        load.piece()
        return _between(load, marks)

    def _reading(self, load: Load) -> Mark:
        """What a counter shows that moves at every reading."""
        return load.piece(), self._sensor.energy_j()

    def _next_step(self, load: Load) -> Mark:
        """The counter's next step."""
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
        """Windows between readings of which each is worth what the counter had at its last step.
        The rhythm is found anew, since its phase is lost within minutes.
        """
        self._steps = steps = self._rhythm(load)
        load.until(self._sensor.time_s() + SETTLE_S[INSTANT])

        def mark(load: Load) -> Mark:
            for _ in range(LOCK_TRIES):
                step_s, phase = steps.before(load.piece())
                if 0.25 <= phase <= 0.75:
                    return step_s, self._sensor.energy_j()
            raise UnavailableError(
                "the work never ended well between two steps of the energy counter"
            )

        return self._marked(mark, load, count, seconds)

    def _summed(
        self, read: Callable[[], float], settle_s: float, load: Load, count: int, seconds: float
    ) -> list[Window]:
        """Watts summed by trapezoids."""
        rng = random.Random(0)
        load.until(self._sensor.time_s() + settle_s)
        energy_j, (time_s, power_w) = 0.0, (self._sensor.time_s(), read())
        marks = [(time_s, energy_j)]
        while len(marks) <= count:
            load.until(time_s + rng.uniform(*SAMPLE_S))
            now_s, now_w = self._sensor.time_s(), read()
            energy_j += (now_s - time_s) * (now_w + power_w) / 2
            time_s, power_w = now_s, now_w
            if time_s >= marks[-1][0] + max(seconds, POWER_WINDOW_S):
                marks.append((time_s, energy_j))
        load.piece()
        return _between(load, marks)


def find_steps(sensor: Sensor, wait: Callable[[], object]) -> Steps:
    """The counter's rhythm. `wait` lets a moment pass, under load or idle.

    Raises `UnavailableError` for a counter that stands still or goes back, and with the sensor's
    own reason.
    """
    moments: list[float] = []
    shown_j = [sensor.energy_j()]
    begin_s = before_s = last_s = sensor.time_s()
    readings = 0
    while len(moments) < STEPS or before_s - begin_s < WATCHED_S:
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


def _power(sensor: Sensor, kind: str) -> Callable[[], float]:
    """Reads watts, and takes none that no working device draws."""

    def read() -> float:
        watts = sensor.power_w(kind)
        if watts <= 0:
            raise UnavailableError(f"the {kind} power reads {watts:g} W, so it is not measured")
        return watts

    return read


def _between(load: Load, marks: list[Mark]) -> list[Window]:
    return [
        Window(
            energy_j=end_j - begin_j,
            seconds=end_s - begin_s,
            frames=load.frames_at(end_s) - load.frames_at(begin_s),
        )
        for (begin_s, begin_j), (end_s, end_j) in pairwise(marks)
    ]


def _check(window: Window, limit_w: float | None) -> None:
    """Raises `UnavailableError` for joules that cannot be."""
    if window.energy_j < 0:
        raise UnavailableError(_went_back(-window.energy_j))
    if window.energy_j == 0:
        raise UnavailableError(
            f"the energy counter stood still for {window.seconds:.1f} s under load"
        )
    power_w = window.energy_j / window.seconds
    if limit_w and power_w > 1.2 * limit_w:
        raise UnavailableError(
            f"the energy counter jumped: {power_w:.0f} W on a device of at most {limit_w:.0f} W"
        )
