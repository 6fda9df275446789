"""YAML as study files and recipes use it: the types of JSON, anchors, aliases and merge keys.

Numbers follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), by which
`5e-4` is a number, `010` is ten and `1:30` is text. PyYAML implements YAML 1.1, which reads them as
text, eight and ninety. Two spellings of YAML 1.1 are still accepted, because study files use them:
`yes`, `no`, `on` and `off`, and digits grouped by underscores. Infinity and NaN are text, because
no key takes them.

PyYAML only builds the graph of nodes, in which an alias is a reference. The values are built here
under a bound, because 300 bytes of nested aliases can stand for billions of values.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from nas.core.errors import InvalidValueError

MAX_CHARACTERS = 100_000
"""Longest text that is parsed, which takes PyYAML about half a second."""
MAX_VALUES = 10_000
"""Largest number of values after all aliases are expanded; study files have about a hundred."""
MAX_DIGITS = 100
"""Longest number, in characters; Python refuses to convert very long ones."""
MAX_DEPTH = 50
"""Deepest nesting of lists and mappings; study files have three levels."""

TAG_PREFIX = "tag:yaml.org,2002:"
MERGE_TAG = f"{TAG_PREFIX}merge"
STRING_TAG = f"{TAG_PREFIX}str"
TRUE_WORDS = frozenset({"true", "yes", "on"})
FALSE_WORDS = frozenset({"false", "no", "off"})


class _Loader(yaml.BaseLoader):
    """PyYAML's scanner, parser and composer, with the scalar types of this module only."""


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "bool",
        r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        list("yYnNtTfFoO"),
    ),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(TAG_PREFIX + _name, re.compile(f"^(?:{_pattern})$"), _first)


def _integer(text: str) -> int:
    return int(text, 0 if text[:2] in {"0o", "0x"} else 10)


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _boolean(text: str) -> bool:
    if text.lower() not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError(text)
    return text.lower() in TRUE_WORDS


SCALARS: Mapping[str, Callable[[str], Any]] = {
    f"{TAG_PREFIX}null": lambda _: None,
    f"{TAG_PREFIX}bool": _boolean,
    f"{TAG_PREFIX}int": _integer,
    f"{TAG_PREFIX}float": _float,
    STRING_TAG: str,
}
"""Functions that convert the text of a scalar, by its tag."""


def parse_yaml(text: str) -> Any:
    """Parse YAML into dicts with text keys, lists, text, numbers, booleans and None.

    Raises `InvalidValueError`, with the place in one line, for text that is not YAML, for a key
    given twice, for tags of other types, and for aliases that contain themselves or stand for more
    than `MAX_VALUES` values.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidValueError(
            f"must have at most {MAX_CHARACTERS} characters, not {len(text)}: is it a study file?"
        )
    try:
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise InvalidValueError(line.replace('in "<unicode string>", ', "at ")) from error
    except RecursionError as error:
        raise InvalidValueError(f"must be nested at most {MAX_DEPTH} deep") from error
    except (ValueError, OverflowError) as error:  # of an escape such as \UFFFFFFFF
        raise InvalidValueError(f"is no YAML: {error}") from error
    return None if node is None else _Builder().value(node, ())


class _Builder:
    """Builds the values of one graph of nodes, and counts them."""

    def __init__(self) -> None:
        self._values = 0

    def value(self, node: yaml.Node, parents: tuple[yaml.Node, ...]) -> Any:
        """Return the value of a node that is inside of these others, outermost first."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise _problem(node, f"the aliases stand for more than {MAX_VALUES} values")
        if any(node is parent for parent in parents):
            raise _problem(node, "an alias is inside of the value that it stands for")
        if len(parents) > MAX_DEPTH:
            raise _problem(node, f"must be nested at most {MAX_DEPTH} deep")
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        inside = (*parents, node)
        if isinstance(node, yaml.SequenceNode):
            _require_tag(node, "seq")
            return [self.value(item, inside) for item in node.value]
        _require_tag(node, "map")
        return self._mapping(node, inside)

    def _mapping(self, node: yaml.Node, inside: tuple[yaml.Node, ...]) -> dict[str, Any]:
        """Return a mapping. Its own keys replace merged ones. If several merged mappings have a
        key, the first one gives its value.
        """
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        keys = [_key(key) for key, _ in node.value]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise _problem(node, f"given twice: {', '.join(repeated)}")
        for key, (key_node, value) in zip(keys, node.value, strict=True):
            if key_node.tag == MERGE_TAG:
                for each in _merged_nodes(value):
                    merged = {**self.value(each, inside), **merged}
            else:
                own[key] = self.value(value, inside)
        return {**merged, **own}


def _merged_nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    """Yield the mappings that a merge key names: one, or a list of them."""
    for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(each, yaml.MappingNode):
            raise _problem(each, "<< must stand before a mapping or a list of mappings")
        yield each


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _problem(node, "a key must be text, not a list or a mapping")
    return str(node.value)


def _scalar(node: yaml.ScalarNode) -> Any:
    convert = SCALARS.get(STRING_TAG if node.tag == MERGE_TAG else node.tag)
    if convert is None:
        raise _problem(node, f"could not determine a constructor for the tag {node.tag!r}")
    if any(_is_control(character) for character in node.value):
        raise _problem(node, f"must have no control characters, not {node.value!r}")
    if convert is not str and len(node.value) > MAX_DIGITS:
        raise _problem(node, f"a number must have at most {MAX_DIGITS} digits")
    try:
        return convert(node.value)
    except ValueError as error:
        raise _problem(node, f"{node.value[:40]!r} is no {node.tag[len(TAG_PREFIX) :]}") from error


def _is_control(character: str) -> bool:
    """Return whether this is a control character other than a line's end and a tabulator, or half a
    surrogate pair, which no file can hold.
    """
    return unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\t"


def _require_tag(node: yaml.Node, kind: str) -> None:
    if node.tag != TAG_PREFIX + kind:
        raise _problem(node, f"could not determine a constructor for the tag {node.tag!r}")


def _problem(node: yaml.Node, text: str) -> InvalidValueError:
    """Return the error with the place of the node."""
    mark = node.start_mark
    return InvalidValueError(f"{text}, at line {mark.line + 1}, column {mark.column + 1}")
