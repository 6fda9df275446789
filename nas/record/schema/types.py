"""Column types with the same meaning on SQLite and PostgreSQL.

Numbers keep every bit, and times are in UTC with their zone.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, DateTime, Double, TypeDecorator
from sqlalchemy.engine import Dialect

from nas.core.errors import InvalidValueError


class Real(TypeDecorator[float]):
    """A 64-bit float, with NULL for NaN.

    SQLite has no NaN, and PostgreSQL gives misleading results for NaN in ORDER BY and MIN. The sign
    of zero is dropped, because SQLite drops it.
    """

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """Return the number to store."""
        return None if value is None or value != value else float(value) + 0.0  # noqa: PLR0124 - NaN


class UtcDateTime(TypeDecorator[datetime]):
    """A time with a precision of one microsecond.

    Raises `InvalidValueError` for a datetime without a time zone.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC, for SQLite without a zone, which it cannot store."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidValueError(f"a time needs a time zone, not {value.isoformat()}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the time in UTC, for any time zone of the server's session."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def one_of(column: str, values: Iterable[StrEnum]) -> CheckConstraint:
    """Return a constraint that the column holds one of these words."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)
