"""Energy of the processor by RAPL, read from the kernel's powercap folder (Linux on bare metal,
Intel and AMD).

Only packages and DRAM are added up: `core` and `uncore` are inside the package, `psys` covers
everything again, and the `-mmio` zones repeat the package. Only root may read the counters since
CVE-2020-8694, and most virtual machines have none. Each of these cases has its own reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import SensorError

POWERCAP = Path("/sys/class/powercap")
"""The kernel's folder of power zones."""


@dataclass
class _Zone:
    """One counter in microjoules. It starts again from 0 after `range_uj`."""

    path: Path
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def advance(self) -> int:
        """Read the counter and return the microjoules since the first reading.

        The counter may wrap at most once between two readings (a wrap takes minutes at full load).
        """
        now_uj = _number(self.path / "energy_uj")
        self.total_uj += now_uj - self.last_uj + (self.range_uj if now_uj < self.last_uj else 0)
        self.last_uj = now_uj
        return self.total_uj


class Rapl:
    """The sum of all package and DRAM counters in the folder `powercap`.

    `hypervisor` names the virtualisation of this machine, for the reason.
    """

    def __init__(self, powercap: Path = POWERCAP, hypervisor: str | None = None) -> None:
        self._powercap = powercap
        self._hypervisor = hypervisor
        self._zones: list[_Zone] | None = None

    def energy_j(self) -> float:
        """Return joules since the first call. Raises `SensorError` with the reason."""
        if self._zones is None:
            self._zones = [_zone(path) for path in self._paths()]
        return sum(zone.advance() for zone in self._zones) / 1e6

    def _paths(self) -> list[Path]:
        if not self._powercap.is_dir():
            inside = f"; this is a virtual machine ({self._hypervisor})" if self._hypervisor else ""
            raise SensorError(f"no RAPL energy counter: there is no {self._powercap}{inside}")
        zones = [path for path in sorted(self._powercap.glob("intel-rapl:*")) if _counts(path)]
        if not zones:
            raise SensorError(
                f"no RAPL energy counter: {self._powercap} has no package or dram zone"
            )
        return zones


def _counts(path: Path) -> bool:
    """Return whether a zone is a package or DRAM, which are the ones to add up."""
    name = _read(path / "name")
    return name.startswith("package") or name == "dram"


def _zone(path: Path) -> _Zone:
    return _Zone(path, _number(path / "max_energy_range_uj"), _number(path / "energy_uj"))


def _number(path: Path) -> int:
    content = _read(path)
    if not content.isdecimal():
        raise SensorError(f"RAPL energy counter {path} holds {content!r}, not a number")
    return int(content)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except PermissionError as error:
        raise SensorError(
            f"permission denied: the RAPL energy counter {path} is readable only by root; "
            "give this user read access to it"
        ) from error
    except OSError as error:
        raise SensorError(f"RAPL energy counter {path} cannot be read: {error.strerror}") from error
