"""Names of new studies.

A study's name is an argument of commands and the name of its folder of checkpoints. Records may
hold studies whose names older versions accepted; these studies stay readable.
"""

from collections.abc import Iterator

from nas.core.errors import InvalidValueError

MAX_NAME_BYTES = 200
"""Longest name of a study, in UTF-8; file systems allow 255 bytes for the name of a folder."""


def name_problems(name: str) -> Iterator[str]:
    """Yield what makes a name unusable, besides what `StudySpec` refuses."""
    if name in {".", ".."}:
        yield f"name must be more than dots, for it names the folder of checkpoints, not {name!r}"
    if name.startswith("-"):
        yield f"name must not begin with a dash, for commands take that for an option, not {name!r}"
    if "\\" in name or name != name.strip():
        yield f"name must have no backslash and no spaces at its ends, not {name!r}"
    size = len(name.encode(errors="surrogatepass"))
    if size > MAX_NAME_BYTES:
        yield f"name must have at most {MAX_NAME_BYTES} bytes, not {size}"
    if any("\ud800" <= character <= "\udfff" for character in name):
        yield f"name must be text in this locale, not {name!r}"


def require_usable_name(name: str) -> None:
    """Raise `InvalidValueError` for the name of a study that commands or folders cannot take."""
    problems = list(name_problems(name))
    if problems:
        raise InvalidValueError("; ".join(problems))
