"""Checks of the numbers in settings, for settings that are built in Python as well as read, and
short forms of what a message shows.
"""

import sys
from collections.abc import Sequence

from nas.core.errors import InvalidValueError


def require(condition: bool, message: str) -> None:
    """Raise `InvalidValueError` with the message unless the condition holds."""
    if not condition:
        raise InvalidValueError(message)


def _finite(value: object) -> bool:
    """Return whether the value is a number that a float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -sys.float_info.max <= value <= sys.float_info.max


def require_whole(*, optional: bool = False, **values: object) -> None:
    """Raise `InvalidValueError` for a value that is no whole number, by the name of its keyword.

    None is allowed if `optional`.
    """
    for name, value in values.items():
        require(
            (type(value) is int and _finite(value)) or (optional and value is None),
            f"{name} must be a whole number, not {shortened(value)}",
        )


def require_finite(*, optional: bool = False, **values: object) -> None:
    """Raise `InvalidValueError` for a value that is no finite number, by the name of its keyword.

    None is allowed if `optional`.
    """
    for name, value in values.items():
        require(
            _finite(value) or (optional and value is None),
            f"{name} must be a finite number, not {shortened(value)}",
        )


def make_floats(settings: object, *names: str, optional: bool = False) -> None:
    """Convert these fields of a frozen dataclass to floats, so that 1 and 1.0 have one digest.

    Raises `InvalidValueError`, as `require_finite` does, for a value that is no finite number.
    """
    for name in names:
        value = getattr(settings, name)
        require_finite(optional=optional, **{name: value})
        if value is not None:
            object.__setattr__(settings, name, float(value))


def shortlist(items: Sequence[str], most: int, *, separator: str = ", ", last: str = " ") -> str:
    """Join the first items, and say after `last` how many more there are."""
    more = len(items) - most
    return separator.join(items[:most]) + (f"{last}and {more} more" if more > 0 else "")


def shortened(value: object) -> str:
    """Return a value as Python shows it, or its beginning. Python refuses to show huge integers."""
    if isinstance(value, int) and not _finite(value) and not isinstance(value, bool):
        return "an integer of more than 300 digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
