"""Column types that mean the same on SQLite and PostgreSQL: numbers keep every bit, times are UTC
and know it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, DateTime, Double, TypeDecorator
from sqlalchemy.engine import Dialect

from nas.core.errors import InvalidValueError


class Real(TypeDecorator[float]):
    """A 64-bit float, NULL for NaN: SQLite has no NaN, and a NaN in an ORDER BY or MIN misleads on
    PostgreSQL.

    The sign of zero is dropped, because SQLite drops it.
    """

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        """The number as it is stored."""
        return None if value is None or value != value else float(value) + 0.0  # noqa: PLR0124 - NaN


class UtcDateTime(TypeDecorator[datetime]):
    """A moment to the microsecond. Refuses datetimes without a time zone with
    `InvalidValueError`.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC; without its zone for SQLite, which has none."""
        if value is None:
            return None
        if value.tzinfo is None:
            message = f"a time needs a time zone, not {value.isoformat()}"
            raise InvalidValueError(message)
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Always in UTC, whatever zone the server's session is in."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


def one_of(column: str, values: Iterable[StrEnum]) -> CheckConstraint:
    """A constraint that the column holds one of these words."""
    words = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({words})", name=column)
