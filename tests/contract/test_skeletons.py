"""The skeletons of plugins in CONTRIBUTING.md pass their contracts.

All of them are written to one folder, where one pytest of its own runs their tests.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from nas.core import plugins

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "CONTRIBUTING.md").read_text().partition("## Adding a plugin\n")[2]
SECTION = re.split(r"^## ", SECTION, flags=re.MULTILINE)[0]
FILES = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", SECTION, re.DOTALL))
"""The Python of each skeleton and of each test, by its path."""
ENTRY_POINTS = {
    group: target
    for block in re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)
    for group, entries in tomllib.loads(block)["project"]["entry-points"].items()
    for target in entries.values()
}
"""The entry point of each group."""
MIN_TESTS = 6
"""The contract with the fewest tests has this many."""
LOAD_TEST = """
import pytest
from nas.core import plugins


@pytest.mark.parametrize(("group", "target"), {targets!r})
def test_it_is_a_plugin_of_its_group(group, target):
    plugins.load(group, target)
"""


def kind(group: str) -> str:
    """Return the name of the group's skeleton: `my_space` for `nas.spaces`."""
    return ENTRY_POINTS[group].partition(":")[0].removeprefix("my_package.")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, list[str]]:
    """Run all tests of the section; failures of each test file, empty texts for passed tests."""
    folder = tmp_path_factory.mktemp("skeletons")
    for path, text in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    loading = LOAD_TEST.format(targets=list(ENTRY_POINTS.items()))
    (folder / "tests" / "test_entry_points.py").write_text(loading)
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=results.xml"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    results: dict[str, list[str]] = defaultdict(list)
    for case in ET.parse(folder / "results.xml").iter("testcase"):  # noqa: S314 - pytest's own
        failed = [part.text or "" for part in case if part.tag in {"failure", "error"}]
        results[case.attrib["classname"].split(".")[1]].append("".join(failed))
    return results


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("group", plugins.GROUPS)
def test_the_skeleton_passes_its_contract(group, outcomes):
    """No test of the contract fails."""
    failures = outcomes[f"test_{kind(group)}"]
    assert len(failures) >= MIN_TESTS
    assert [failure for failure in failures if failure] == []


@pytest.mark.long
@pytest.mark.slow
def test_every_entry_point_is_a_plugin_of_its_group(outcomes):
    """What it names can be loaded, and has what the group requires."""
    assert outcomes["test_entry_points"] == [""] * len(plugins.GROUPS)


def test_every_group_has_a_skeleton_with_its_test():
    """A new group gets a section of its own."""
    assert set(ENTRY_POINTS) == set(plugins.GROUPS)
    expected = {
        path
        for group in plugins.GROUPS
        for path in (f"my_package/{kind(group)}.py", f"tests/test_{kind(group)}.py")
    }
    assert set(FILES) == expected


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_a_skeleton_is_short(group):
    """It has 5 to 15 lines besides imports and empty ones."""
    lines = FILES[f"my_package/{kind(group)}.py"].splitlines()
    code = [line for line in lines if line and not line.startswith(("from ", "import "))]
    assert 5 <= len(code) <= 15


def test_the_contracts_need_no_hypothesis():
    """A plugin's author installs pytest and nothing else."""
    for path in (ROOT / "nas" / "testing").glob("*.py"):
        assert "hypothesis" not in path.read_text(), path
