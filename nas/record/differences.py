"""Differences between two JSON values, by path, such as `objectives.1.limit`."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

Difference = tuple[str, Any, Any]
"""Path, value on the left, and value on the right. A missing value is `nothing`."""
MISSING_VALUE = "nothing"
"""The value of a key that only the other side has."""


def differences(left: Any, right: Any, path: str = "") -> Iterator[Difference]:
    """Yield all leaves that differ, in the order of the left value.

    Numbers are equal if only rounding separates them: older versions read `95 %` as
    0.9500000000000001.
    """
    left_children, right_children = _children(left), _children(right)
    if left_children is None or right_children is None:
        if not _equal(left, right):
            yield path, left, right
        return
    for key in {**left_children, **right_children}:
        child_path = f"{path}.{key}" if path else key
        yield from differences(
            left_children.get(key, MISSING_VALUE),
            right_children.get(key, MISSING_VALUE),
            child_path,
        )


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-14)
    return bool(left == right)


def _children(value: Any) -> dict[str, Any] | None:
    """Return the parts of a mapping or a list by key, None for a leaf."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list):
        return {str(index): item for index, item in enumerate(value)}
    return None
