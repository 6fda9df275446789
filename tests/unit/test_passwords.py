"""Passwords in addresses stay out of messages."""

import pytest

from nas.core.passwords import is_readable, without_password


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://localhost/nas",
        "postgresql://me@localhost:5432/nas",
        "postgresql://me:p%40ss%2Fword@[::1]:5432/nas?sslmode=require",
        "postgresql://me:@/nas?host=/run/postgresql",
        "postgresql:///nas",
        "sqlite:////home/me@work/nas.db",
        "nas.db",
    ],
)
def test_addresses_that_can_be_taken_apart(address):
    """With and without user, host, port and options; a file may be named anyhow."""
    assert is_readable(address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:p@ss@localhost/nas",
        "postgresql://me:p/ss@localhost/nas",
        "postgresql://me:p?ss@localhost/nas",
        "postgresql://me:pass/nas",
        "postgresql://localhost/nas?password=p@ss",
    ],
)
def test_addresses_whose_password_may_reach_into_other_parts(address):
    """Unencoded @, / and ?, and a port that is no number."""
    assert not is_readable(address)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no 'postgresql://me:p@ss/x@h/nas' here", "no 'postgresql://***' here"),
        ("postgresql:/me:pass@h: cannot be read", "postgresql:/*** cannot be read"),
        ("(mysql+pymysql://me:pass/nas)", "(mysql+pymysql://***"),
        ("postgresql://h/nas?passwd=pass&user=me", "postgresql://h/nas?passwd=***&user=me"),
        ("give postgresql://USER:PASSWORD@HOST/NAME", "give postgresql://USER:PASSWORD@HOST/NAME"),
        ("postgresql://me:***@h:1/nas is down", "postgresql://me:***@h:1/nas is down"),
        ("postgresql://h:5432/nas is down", "postgresql://h:5432/nas is down"),
        ("http://localhost:8000 shows nas.db", "http://localhost:8000 shows nas.db"),
    ],
)
def test_texts_that_repeat_an_address(text, expected):
    """Addresses with a password are hidden, all others are left."""
    assert without_password(text) == expected
