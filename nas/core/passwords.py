"""Keep the passwords in addresses of databases out of every message."""

import re

ENCODING = (
    "percent-encode characters such as @ / : ? in the user and the password (%40 %2F %3A %3F)"
)
"""Advice for an address that cannot be taken apart."""
PLACE = re.compile(r"(\[[^\]/?]*\]|[^:/?]*)(:\d*)?([/?].*)?", re.DOTALL)
"""Host, port, and the name of the database with its options: all that follows the @."""
WITH_USER = re.compile(r"(\w[\w+]*:/++)(?!USER:PASSWORD@|[^\s@]*:\*\*\*@)\S*@[^\s'\")]*")
"""An address with a user, unless its password is a placeholder."""
WITHOUT_HOST = re.compile(
    r"\b((?:postgres|mysql|mariadb)[\w+]*:/++)(?!\S*@)[^\s/:\[]*:(?!\d*(?:[/?\s'\"]|$))[^\s'\"]+"
)
"""An address without an @, in whose user and password others would see a host and a port."""
OPTION = re.compile(r"(pass\w*=)[^\s&'\"]+", re.IGNORECASE)
"""An option of an address that is a password."""


def is_readable(address: str) -> bool:
    """Return whether the password of a URL can be separated from its other parts.

    URLs of SQLite have no password.

    An unencoded @ or / would move the rest of the password into the host or the name of the
    database, which messages print.
    """
    if address.startswith("sqlite"):
        return True
    user, _, place = address.partition("://")[2].rpartition("@")
    return set(user).isdisjoint("@/?") and PLACE.fullmatch(place) is not None


def without_password(text: str) -> str:
    """Hide every address in a text that holds a password, however wrong the address is.

    Use it for texts that repeat words of a user, who may have given an address in the wrong place.
    """
    hidden = WITHOUT_HOST.sub(r"\1***", WITH_USER.sub(r"\1***", text))
    return OPTION.sub(r"\1***", hidden)
