"""`--json`: one document of the documented schema, and nothing else on standard output.

Commands that measure or train are compared with their schemas where they are tested.
"""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import click
import pytest
from click.testing import CliRunner
from output_schemas import differences
from safetensors.torch import save_file

from nas.cli import main
from nas.model.densenet import DenseNet
from nas.record import Store

PAGE = Path(__file__).parents[2] / "docs" / "output.md"
UNREACHABLE = """
name: unreachable
space: osa_tiny
objectives: [{metric: macs, limit: 2}]
budget: {trials: 2, proposals: 2}
data: {dataset: digits, validation_images: 20}
"""
CURVES = Path(__file__).parents[2] / "studies" / "cifar10-replay" / "curves.csv"


def printed(*words, code=0):
    """The only thing that a command prints on standard output."""
    result = CliRunner().invoke(main, [*map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("studies", ("status",)),
        ("studies", ("study", "list", "--all")),
        ("study", ("status", "pages")),
        ("front", ("front", "pages")),
        ("front", ("front", "pages", "--at", "5")),
        ("show", ("show", "pages:3")),
        ("compare", ("compare", "pages:3", "pages:4")),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_command_that_reads_the_record(record, schema, words):
    """Every key is documented, and every documented key is there."""
    document = printed(*words, "--database", record)
    assert not differences(schema, document)


def test_figures_of_a_study_are_those_of_its_text(record):
    """Both are printed from the same facts."""
    text = CliRunner().invoke(main, ["status", "pages", "--database", str(record)]).stdout
    facts = printed("status", "pages", "--database", record)
    box = math.prod(objective["reference"] for objective in facts["objectives"])
    assert f"hypervolume {100 * facts['hypervolume'] / box:.3g} % of" in text
    trained = sum(facts["trials"].values()) - facts["skipped"]
    assert f"{trained} of {facts['budget']['trials']} architectures" in text
    assert f"{facts['spent']['epochs']:g} epochs" in text
    front = printed("front", "pages", "--database", record)
    assert facts["hypervolumes"][-1]["value"] == facts["hypervolume"] == front["hypervolume"]


def test_a_record_with_problems(record):
    """The document lists the files that this record lacks, and the exit code says so too."""
    facts = printed("db", "check", "--database", record, code=2)
    assert not differences("record", facts)
    assert all("does not exist" in problem for problem in facts["problems"])


def test_a_published_network(tmp_path):
    """It has counts and no trial."""
    facts = printed("show", "vovnet39", "--database", tmp_path / "nas.db")
    assert not differences("show", facts)
    assert facts["trial"] is None
    assert facts["network"]["parameters"] == 22_600_296


def test_weights_and_peers(tmp_path):
    """Connections, a cut, and counts without a measurement."""
    model = DenseNet(growth=4, layers=(3, 4), stem_channels=6, small_images=True, num_classes=10)
    path = tmp_path / "small.safetensors"
    save_file(model.state_dict(), path)
    facts = printed("paper", "connections", path)
    assert not differences("connections", facts)
    assert facts["networks"][0]["blocks"][0]["strengths"][0][1] is None
    cut = ("--block", 1, "--layers", "1-3", "--sources", "0")
    facts = printed("paper", "ablate", path, *cut)
    assert not differences("ablate", facts)
    database = ("--database", tmp_path / "nas.db")
    facts = printed("paper", "peers", "densenet-40", "--rounds", 0, *database)
    assert not differences("peers", facts)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("engine", ("--trials", 12)),
        ("search", ("--made-up", "osa_tiny", "--samplers", "random,tpe", "--budget", 10)),
        ("stopping", ("--table", CURVES, "--seeds", 1)),
        pytest.param(
            *("store", ("--evaluations", 10, "--processes", 1, "--compared", 0)),
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_benchmark(name, options):
    """Smallest runs of benchmarks."""
    assert not differences(f"bench {name}", printed("bench", name, *options))


def test_a_problem_leaves_standard_output_empty(tmp_path):
    """The line is on standard error, and the exit code says that there is no document."""
    result = CliRunner().invoke(main, ["front", "--json", "--database", str(tmp_path / "no.db")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")


def _rows():
    """Code and commands of each row of the page's table of exit codes."""
    lines = PAGE.read_text().split("## Exit codes")[1].split("## Schemas")[0].splitlines()
    cells = [re.split(r"(?<!\\)\|", line) for line in lines if re.match(r"\| \d", line)]
    return [(int(row[1]), row[3].strip().strip("`")) for row in cells]


class TestExitCodes:
    """The table of the page, row by row, as commands really end."""

    @pytest.fixture
    def run(self, record, monkeypatch):
        """A command on a record."""
        monkeypatch.setenv("NAS_DATABASE", str(record))
        return lambda *words: CliRunner().invoke(main, words).exit_code

    def test_the_table_has_these_rows(self):
        """A new row needs a test below. That of verify is in `test_export_commands.py`."""
        assert _rows() == [
            (0, "all"),
            (1, "nas verify"),
            (1, "all"),
            (2, "all"),
            (2, "nas search"),
            (2, "nas db check"),
            (130, "all"),
            (141, "all"),
        ]

    def test_0(self, run):
        """The study is there."""
        assert run("status", "pages") == 0

    def test_1_of_a_fault(self, run, monkeypatch):
        """An exception that is no error of a user."""
        monkeypatch.setattr(Store, "studies", Mock(side_effect=ZeroDivisionError))
        assert run("status") == 1

    def test_2(self, run):
        """Wrong words, and a study that is not there."""
        assert run("status", "--wrong") == run("status", "none") == run("nothing") == 2

    def test_2_of_search(self, run, tmp_path):
        """No network has so few MACs."""
        file = tmp_path / "study.yaml"
        file.write_text(UNREACHABLE)
        assert run("search", str(file)) == 2

    def test_2_of_db_check(self, run):
        """Files that the record names do not exist."""
        assert run("db", "check") == 2

    @pytest.mark.parametrize("error", [KeyboardInterrupt, click.Abort])
    def test_130(self, run, monkeypatch, error):
        """Ctrl-C, and what click raises at Ctrl-D."""
        monkeypatch.setattr(Store, "studies", Mock(side_effect=error))
        assert run("status") == 130

    def test_141(self, record):
        """The reader has gone before the command writes."""
        call = "from nas.cli import main; main()"
        with subprocess.Popen(
            [sys.executable, "-c", call, "status", "--json", "--database", record],
            stdout=subprocess.PIPE,
        ) as process:
            process.stdout.close()
        assert process.returncode == 141
