"""The repository as a text: it stands alone, and every page of its documentation can be found."""

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
LINK = re.compile(r"\]\(([^)\s#]+)")


def files() -> Iterator[Path]:
    """The project's own files, without what is made from them."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and ".db" not in path.name)
    for folder in FOLDERS:
        yield from (
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )


def links(page: Path) -> set[Path]:
    """The files and folders of the repository that a Markdown page points to."""
    targets = LINK.findall(page.read_text())
    return {(page.parent / target).resolve() for target in targets if ":" not in target}


def pages_from(start: Path) -> set[Path]:
    """Every Markdown page that a reader reaches by following links."""
    reached, ahead = set(), [start]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            ahead.extend(links(page))
    return reached


@pytest.mark.parametrize("what", FOREIGN)
def test_names_nothing_of_the_workplace(what: str) -> None:
    """A clone elsewhere finds everything; only the CI script may look beside the repository."""
    allowed = {ROOT / ".ci/run"} if "beside" in what else set()
    assert [
        str(path)
        for path in files()
        if path not in allowed and FOREIGN[what].search(path.read_bytes())
    ] == []


def test_every_page_is_reached_from_the_readme() -> None:
    """Documentation that nothing links to is not read."""
    pages = {path.resolve() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(pages - pages_from(ROOT / "README.md")) == []


def test_no_link_is_broken() -> None:
    """Every relative link of every page points to something that is there."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "studies").rglob("*.md")]
    assert [
        (page.name, str(target)) for page in pages for target in links(page) if not target.exists()
    ] == []
