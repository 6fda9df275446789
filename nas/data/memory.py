"""Memory that images take, compared with what this machine has before they are read."""

import math
from pathlib import Path

from nas.agent.host import read_stripped
from nas.core.errors import InvalidValueError
from nas.core.units import format_quantity

COPIES = 2
"""A process holds its images twice for a moment: as they were read, and split."""


def check_memory(
    images: int, side: int, processes: int = 1, *, resizable: bool = True, held: int = 0
) -> None:
    """Refuse square RGB images of `side` pixels that do not fit into this machine's memory.

    Each of the `processes` holds all of them. `resizable` says that a study can choose another
    side. `held` copies are in this process now and will be gone by then. Raises
    `InvalidValueError` with the side that fits.
    """
    available = available_bytes()
    if available is None:
        return
    available += held * images * 3 * side**2
    pixels = COPIES * processes * images * 3
    if pixels * side**2 <= available:
        return
    each = f" in each of {processes} workers" if processes > 1 else ""
    fitting = math.isqrt(int(available // pixels)) // 8 * 8
    smaller = f"image_size {fitting}" if fitting else "fewer images"
    cures = [smaller] if resizable else []
    cures += ["fewer workers"] if processes > 1 else []
    key = f"data.image_size {side}: " if resizable else ""
    raise InvalidValueError(
        f"{key}{images:,} images of {side} x {side} pixels{each} need "
        f"{format_quantity(pixels * side**2, 'B')} of memory, and "
        f"{format_quantity(available, 'B')} are free; take {' or '.join(cures)}"
    )


def available_bytes(root: Path = Path("/")) -> int | None:
    """Return the free memory, at most the limit of this process's control group; None if the system
    reports neither.
    """
    amounts = [
        1024 * int(line.split()[1])
        for line in (read_stripped(root / "proc/meminfo") or "").splitlines()
        if line.startswith("MemAvailable:")
    ]
    _, _, name = (read_stripped(root / "proc/self/cgroup") or "").rpartition("0::/")
    group = Path(name)
    for folder in (group, *group.parents):
        limit = read_stripped(root / "sys/fs/cgroup" / folder / "memory.max") or ""
        amounts += [int(limit)] if limit.isdecimal() else []
    return min(amounts, default=None)
