"""Energy, power, temperature and throttling of a Linux device, read from sysfs.

* Energy counter: RAPL (`rapl`).
* Power: an INA3221 of a Jetson module (hwmon). Its channels are voltages in mV and currents in mA.
  The module's input has the label VDD_IN or POM_5V_IN. A module without such a rail, such as the
  AGX Orin, needs the names of the rails to add up (`serve --rails`), since some rails feed others.
* Throttling: the cooling devices of the CPU's frequency in force (`thermal-cpufreq`, `Processor`),
  the counters of x86 processors, and the flags of a Raspberry Pi's firmware.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from .errors import SensorError
from .host import hypervisor, read_stripped
from .rapl import POWERCAP, Rapl

SYS = Path("/sys")
"""The kernel's files about devices."""
INPUT_RAILS = ("VDD_IN", "POM_5V_IN")
"""Labels of the rail that feeds a whole module."""
PI_FLAGS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Flags in force of a Raspberry Pi's firmware, by their bit."""
COOLING = ("thermal-cpufreq", "cpufreq", "Processor")
"""First words of the type of cooling devices that lower the CPU's frequency."""


class Rail:
    """One channel of an INA3221."""

    def __init__(self, label: str, voltage: Path, current: Path) -> None:
        self.label = label
        self._voltage, self._current = voltage, current

    def power_w(self) -> float:
        """Return the present watts."""
        return _number(self._voltage) / 1e3 * _number(self._current) / 1e3


class Sensors:
    """All sensors of a device. `rails` names the power rails to add up, by default the input."""

    def __init__(self, sys: Path = SYS, rails: Sequence[str] = ()) -> None:
        self._sys = sys
        powercap = POWERCAP if sys == SYS else sys / "class/powercap"
        self._rapl = Rapl(powercap, hypervisor())
        self._wanted = tuple(rails)
        self._rails: list[Rail] | None = None
        self._throttle_counts: dict[str, int] | None = None
        self._throttled_since_look()

    def energy_j(self) -> float:
        """Return joules since the first reading. Raises `SensorError`."""
        return self._rapl.energy_j()

    def power_w(self) -> float:
        """Return the present watts of the rails. Raises `SensorError`."""
        if self._rails is None:
            self._rails = self._chosen_rails()
        return sum(rail.power_w() for rail in self._rails)

    def energy(self) -> dict[str, Any]:
        """Return which readings are possible: the name of each source, or why there is none."""
        sources: dict[str, Any] = {}
        try:
            self.energy_j()
            sources["counter"] = "rapl packages and dram"
        except SensorError as error:
            sources["counter_problem"] = str(error)
        try:
            self.power_w()
            labels = " + ".join(rail.label for rail in self._rails or ())
            sources["power"] = f"ina3221 {labels}"
        except SensorError as error:
            sources["power_problem"] = str(error)
        return sources

    def state(self) -> dict[str, Any] | None:
        """Return temperature in degrees Celsius and the slowdowns in force, None if the device
        reports neither.
        """
        zones = sorted(self._sys.glob("class/thermal/thermal_zone*/temp"))
        readings = [read_stripped(zone) for zone in zones]
        milli_c = [int(each) for each in readings if each and each.lstrip("-").isdigit()]
        slowed = self._slowed()
        if not milli_c and slowed is None:
            return None
        return {
            "temperature_c": round(max(milli_c) / 1000) if milli_c else None,
            "slowed": slowed,
        }

    def _slowed(self) -> list[str] | None:
        """Return the slowdowns in force, None if the device reports none of them."""
        cooling = self._cooling()
        counted = self._throttled_since_look()
        firmware = self._firmware()
        if cooling is None and counted is None and firmware is None:
            return None
        return [*(cooling or ()), *(counted or ()), *(firmware or ())]

    def _cooling(self) -> list[str] | None:
        devices = []
        for path in sorted(self._sys.glob("class/thermal/cooling_device*")):
            kind, level = read_stripped(path / "type"), read_stripped(path / "cur_state")
            if kind and kind.startswith(COOLING) and level and level.isdigit():
                devices.append((kind, int(level)))
        if not devices:
            return None
        return [f"cooling by {kind}" for kind, level in devices if level > 0]

    def _throttled_since_look(self) -> list[str] | None:
        pattern = "devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
        counts = {}
        for path in self._sys.glob(pattern):
            count = read_stripped(path)
            if count and count.isdigit():
                counts[str(path)] = int(count)
        before, self._throttle_counts = self._throttle_counts, counts
        if not counts:
            return None
        rising = any(count > (before or counts).get(path, count) for path, count in counts.items())
        return ["thermal throttling"] if rising else []

    def _firmware(self) -> list[str] | None:
        flags = read_stripped(self._sys / "devices/platform/soc/soc:firmware/get_throttled")
        if flags is None:
            return None
        try:
            value = int(flags, 16)
        except ValueError:
            return None
        return [name for bit, name in PI_FLAGS.items() if value >> bit & 1]

    def _chosen_rails(self) -> list[Rail]:
        rails = {rail.label: rail for rail in self._all_rails()}
        if not rails:
            raise SensorError(f"no INA3221 power sensor: none in {self._sys}/class/hwmon")
        if self._wanted:
            missing = [label for label in self._wanted if label not in rails]
            if missing:
                raise SensorError(
                    f"no power rail {missing[0]!r}; there are: {', '.join(sorted(rails))}"
                )
            return [rails[label] for label in self._wanted]
        for label in INPUT_RAILS:
            if label in rails:
                return [rails[label]]
        raise SensorError(
            f"none of the power rails {', '.join(sorted(rails))} is the module's input; name those "
            "to add up with --rails"
        )

    def _all_rails(self) -> list[Rail]:
        rails = []
        for folder in sorted(self._sys.glob("class/hwmon/hwmon*")):
            if read_stripped(folder / "name") != "ina3221":
                continue
            for label_file in sorted(folder.glob("in*_label")):
                number = label_file.name[len("in") : -len("_label")]
                voltage, current = folder / f"in{number}_input", folder / f"curr{number}_input"
                label = read_stripped(label_file)
                if label and current.exists():
                    rails.append(Rail(label, voltage, current))
        return rails


def _number(path: Path) -> int:
    content = read_stripped(path)
    if content is None or not content.lstrip("-").isdigit():
        raise SensorError(f"the power sensor {path} cannot be read: it holds {content!r}")
    return int(content)
