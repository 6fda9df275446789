"""The repository as text: it refers to nothing outside, and every page and heading can be found."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", "docs", "nas", "search_spaces", "studies", "tests", "workers")
FOREIGN = {
    "a path of the machine it was written on": re.compile(rb"(?<![\w.])/[w]ork/"),
    "a folder beside the repository": re.compile(rb"\.\.[/]shared"),
    "the host of a package registry": re.compile(
        rb"pypi[.]org|pythonhosted[.]org|[d]eb[.]debian[.]org|npmjs[.]"
    ),
}
"""Texts that a clone on another machine cannot use, by what they are."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ +(.*?)$", re.MULTILINE)


def files() -> Iterator[Path]:
    """Yield the files of the project, without generated ones."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and ".db" not in path.name)
    for folder in FOLDERS:
        yield from (
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )


def markdown_pages() -> list[Path]:
    """Return every Markdown page of the project."""
    return [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "studies").rglob("*.md"),
    ]


def links(page: Path) -> list[tuple[Path, str]]:
    """Return file and anchor of every link of a page into the repository."""
    targets = [target for target in LINK.findall(page.read_text()) if ":" not in target]
    pairs = [target.partition("#") for target in targets]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in pairs]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, formed as GitHub forms them."""
    headings = HEADING.findall(FENCED.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages_from(start: Path) -> set[Path]:
    """Return every Markdown page that a reader reaches by following links."""
    reached, ahead = set(), [start]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            ahead.extend(target for target, _ in links(page))
    return reached


@pytest.mark.parametrize("what", FOREIGN)
def test_no_file_refers_to_the_machine_it_was_written_on(what: str) -> None:
    """A clone on another machine finds everything; only the CI script may look beside the
    repository.
    """
    allowed = {ROOT / ".ci/run"} if "beside" in what else set()
    findings = [
        str(path)
        for path in files()
        if path not in allowed and FOREIGN[what].search(path.read_bytes())
    ]
    assert findings == []


def test_every_page_is_reached_from_the_readme() -> None:
    """Readers find each page of the documentation by following links."""
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages - pages_from(ROOT / "README.md")) == []


def test_every_link_leads_to_a_file() -> None:
    """Every relative link of every page leads to a file or folder that exists."""
    findings = [
        (page.name, str(target))
        for page in markdown_pages()
        for target, _ in links(page)
        if not target.exists()
    ]
    assert findings == []


def test_every_anchor_leads_to_a_heading() -> None:
    """Every link to a part of a page leads to a heading of that page."""
    findings = [
        (page.name, target.name, anchor)
        for page in markdown_pages()
        for target, anchor in links(page)
        if anchor and anchor not in anchors(target)
    ]
    assert findings == []


def text_files_in_the_locale(path: Path) -> Iterator[str]:
    """Yield the places where a module opens a text file without naming its encoding."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        modes = [value for value in values if re.fullmatch("[rwaxbt+]+", str(value))]
        opens = name in {"open", "fdopen"} and (modes or not node.args)
        if name in {"read_text", "write_text"} or (opens and "b" not in "".join(modes)):
            yield f"{path.relative_to(ROOT)}:{node.lineno}"


def test_text_files_do_not_depend_on_the_locale() -> None:
    """Every one is in UTF-8, so that a file is read on another machine as it was written."""
    folders = ("nas", "search_spaces", "studies", "workers")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert [place for path in modules for place in text_files_in_the_locale(path)] == []
