"""The English of docstrings, pages and help texts keeps its figures.

The limits are those of well-known code bases, which contain practically none of these words. A
failing test lists every finding as `file:line: word`. CONTRIBUTING.md shows how to say it instead.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("nas", "workers", "search_spaces")
HELP_PAGE = ROOT / "docs" / "commands.md"
"""The help texts of all commands, kept equal to `--help` by test_cli.py."""
FRAGMENT = re.compile(r"(Of|What|Who|Whom|Whose|Whether|Why|How|By|Where|As)\b")
"""First words of a docstring that is no full sentence."""
TELL_TALE = re.compile(
    r"\b(told|tells|nobody|somebody|whoever|goes\s+on|go\s+on|anew|so\s+many)\b", re.IGNORECASE
)
"""Words that treat programs as people, or that a plainer word replaces."""
WORD = re.compile(r"[A-Za-z']+")
MAX_FRAGMENT_SHARE = 0.02
MAX_TELL_TALES_PER_WORD = 2 / 10_000
BARE_ADJECTIVE = re.compile(
    r"_?(ALWAYS|BEST|BIG|CLOSE|ENOUGH|FAR|FEW|FEWEST|FIRST|FRESH|HIGH|KNOWN|LARGE|LARGEST|LAST"
    r"|LATEST|LEAST|LESS|LONG|LONGEST|LOOK|LOW|MANY|MORE|MOST|MUCH|NEAR|NEAREST|NEW|NEWEST|NOTHING"
    r"|OLD|OLDEST|PART|SHORT|SHORTEST|SHOWN|SMALL|SMALLEST|SUMMED|SURE|TRIES|UNTOLD|WIDE|WORTH)"
    r"(_(S|MS|J|W|MB|BYTES))?"
)
"""Names of constants that do not say of what: FEWEST does not, MIN_CURVES does."""


@dataclass(frozen=True)
class Text:
    """A docstring or a page, and the place of its first line."""

    path: Path
    line: int
    text: str

    def place(self, offset: int = 0) -> str:
        """Return file and line of the character at this offset."""
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line + self.text.count(chr(10), 0, offset)}"


def sources() -> Iterator[Path]:
    """Yield the modules of the packages that ship.

    Revisions of the database are left out: they stay as they were released.
    """
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.name != "versions":
                yield path


def docstrings(path: Path) -> Iterator[Text]:
    """Yield every docstring of a module, those below constants and fields included."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for child in body if isinstance(body, list) else ():
            match child:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield Text(path, child.lineno, text)


def all_docstrings() -> list[Text]:
    """Return the docstrings of all packages that ship."""
    return [text for path in sources() for text in docstrings(path)]


def pages() -> list[Text]:
    """Return the pages of the documentation and the README, without the help texts."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [Text(path, 1, path.read_text()) for path in paths if path != HELP_PAGE]


def fragments(texts: Iterable[Text]) -> list[str]:
    """Return the place and the first word of every docstring that begins as a fragment."""
    matches = [(text, FRAGMENT.match(text.text.lstrip())) for text in texts]
    return [f"{text.place()}: {match.group()}" for text, match in matches if match]


def tell_tales(texts: Iterable[Text]) -> list[str]:
    """Return the place and the text of every tell-tale word."""
    return [
        f"{text.place(match.start())}: {' '.join(match.group().split())}"
        for text in texts
        for match in TELL_TALE.finditer(text.text)
    ]


def bare_adjectives(path: Path) -> list[str]:
    """Return the place and the name of every module constant that is a bare adjective."""
    findings = []
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            name = target.id if isinstance(target, ast.Name) else ""
            if BARE_ADJECTIVE.fullmatch(name):
                findings.append(f"{Text(path, node.lineno, '').place()}: {name}")
    return findings


def words(texts: Iterable[Text]) -> int:
    """Return the number of words in all texts."""
    return sum(len(WORD.findall(text.text)) for text in texts)


def assert_few_tell_tales(texts: list[Text]) -> None:
    """Fail with every place if the texts contain more tell-tale words than the limit."""
    findings, limit = tell_tales(texts), MAX_TELL_TALES_PER_WORD * words(texts)
    assert len(findings) <= limit, report(findings, limit)


def report(findings: list[str], limit: float) -> str:
    """Return all findings, one a line, below their number and the limit."""
    return "\n".join([f"{len(findings)} findings, at most {limit:.1f} are allowed:", *findings])


def test_docstrings_begin_with_a_sentence() -> None:
    """Nearly every docstring begins with a full sentence, a noun phrase or an imperative."""
    texts = all_docstrings()
    findings, limit = fragments(texts), MAX_FRAGMENT_SHARE * len(texts)
    assert len(findings) <= limit, report(findings, limit)


def test_docstrings_contain_few_tell_tale_words() -> None:
    """Docstrings say "reported", "the caller" and "resumes"."""
    assert_few_tell_tales(all_docstrings())


def test_pages_contain_few_tell_tale_words() -> None:
    """Pages follow the same rule as docstrings."""
    assert_few_tell_tales(pages())


def test_help_texts_contain_few_tell_tale_words() -> None:
    """Help texts follow the same rule as docstrings."""
    assert_few_tell_tales([Text(HELP_PAGE, 1, HELP_PAGE.read_text())])


def test_no_constant_is_a_bare_adjective() -> None:
    """A constant is named by a noun, if necessary with MIN_ or MAX_ before it."""
    findings = [finding for path in sources() for finding in bare_adjectives(path)]
    assert not findings, report(findings, 0)


def test_findings_name_file_line_and_word(tmp_path: Path) -> None:
    """Each finder sees what it looks for, and a finding leads to the line."""
    path = tmp_path / "example.py"
    path.write_text(
        '"""Of one loss."""\n'
        "FEWEST = 3\n"
        '"""Curves that are needed."""\n'
        "LOOK_S: float = 1.0\n"
        "MIN_CURVES = 3\n"
        "\n"
        "def resume():\n"
        '    """Resume the study.\n'
        "\n"
        "    The search goes\n"
        '    on, and nobody is asked."""\n'
    )
    texts = sorted(docstrings(path), key=lambda text: text.line)
    assert fragments(texts) == [f"{path}:1: Of"]
    assert tell_tales(texts) == [f"{path}:10: goes on", f"{path}:11: nobody"]
    assert bare_adjectives(path) == [f"{path}:2: FEWEST", f"{path}:4: LOOK_S"]
    assert words(texts) == 18
