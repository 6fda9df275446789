"""Where two JSON values differ, by path: `objectives.1.limit`. Numbers that differ by less than any
writing of them are the same: older versions read `95 %` as 0.9500000000000001.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Difference = tuple[str, Any, Any]
"""Path, value on the left, value on the right; `nothing` stands for a missing one."""
NOTHING = "nothing"


def differences(left: Any, right: Any, path: str = "") -> Iterator[Difference]:
    """All leaves that differ, in the order of the left value."""
    ours, theirs = _children(left), _children(right)
    if ours is None or theirs is None:
        if not _same(left, right):
            yield path, left, right
        return
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        inner = f"{path}.{key}" if path else key
        yield from differences(ours.get(key, NOTHING), theirs.get(key, NOTHING), inner)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-14)
    return bool(left == right)


def _children(value: Any) -> dict[str, Any] | None:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list):
        return {str(index): item for index, item in enumerate(value)}
    return None
