"""No command prints the password of a database's address, and a search names the code it runs."""

import socket
import traceback

import click
import pytest
from click.testing import CliRunner

from nas.cli import main
from nas.core.errors import NasError
from nas.core.study import Objective, StudySpec
from nas.sampling.optuna_study import export_study
from search_spaces import osa_tiny

STUDY = """
name: s
space: osa_tiny
objectives: [{metric: macs}]
"""
SECRET = "s3cret"  # noqa: S105 - it opens nothing


def commands(group, words=()):
    """Yield the words of every command that takes the address of a database."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        elif any(SECRET in word for word in addressed(command, SECRET)):
            yield (*words, name), command


def addressed(command, address):
    """Return arguments with which a command opens this database; others have any value."""
    given = []
    for parameter in command.params:
        if parameter.name == "database":
            given += ["--database", address]
        elif isinstance(parameter, click.Argument):
            takes_address = parameter.metavar in {"URL", "SRC", "DST"}
            given.append(
                address
                if takes_address
                else "study.yaml"
                if parameter.name == "study_file"
                else "s:0"
            )
    return given


ADDRESSES = pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:s3cret@127.0.0.1:{port}/nas",
        "postgresql://me@127.0.0.1:{port}/nas?password=s3cret",
        "postgres:/me:s3cret@127.0.0.1:{port}/nas",
        "me:s3cret@127.0.0.1/nas",
        "mysql://me:s3cret@127.0.0.1/nas",
        "postgresql://me:s3cret@127.0.0.1:port/nas",
    ],
)


@ADDRESSES
def test_a_password_is_never_printed(address, tmp_path, monkeypatch):
    """It is not in the exception that a caller of the library gets either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = address.format(port=reserved.getsockname()[1])  # no process listens there
        tried = list(commands(main))
        for words, command in tried:
            options = ["--json"] if words == ("measure",) else []
            result = CliRunner().invoke(main, [*words, *options, *addressed(command, url)])
            output = result.output + "".join(traceback.format_exception(result.exception))
            assert result.exit_code != 0, words
            assert SECRET not in output, (words, output)
    assert len(tried) > 15


@ADDRESSES
def test_errors_of_optuna_have_no_password(address):
    """Each becomes one line of ours."""
    spec = StudySpec(name="s", space="osa_tiny", objectives=(Objective(metric="macs"),))
    with pytest.raises(NasError) as error:
        export_study(spec, osa_tiny.SPACE, [], address.format(port=1))
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_search_names_code_from_outside_the_current_folder(tmp_path, monkeypatch):
    """Code beside the study in this folder, and registered names, are not mentioned."""
    outside, here = tmp_path / "outside", tmp_path / "here"
    for folder in (outside, here):
        folder.mkdir()
        (folder / f"{folder.name}_space.py").write_text(
            "from search_spaces.osa_tiny import SPACE\n"
        )
        (folder / "study.yaml").write_text(STUDY.replace("osa_tiny", f"{folder.name}_space:SPACE"))
    (here / "known.yaml").write_text(STUDY)
    monkeypatch.chdir(here)

    def output(study):
        return (
            CliRunner()
            .invoke(main, ["search", study, "--database", "postgresql://127.0.0.1:1/nas"])
            .output
        )

    (outside / "outside_evaluator.py").write_text(
        "from nas.searching.evaluators.classification import CLASSIFICATION as MINE\n"
    )
    (here / "other.yaml").write_text(STUDY + "evaluator: outside_evaluator:MINE\n")
    monkeypatch.syspath_prepend(outside)
    evaluator = outside / "outside_evaluator.py"
    assert f"outside the current folder: {evaluator}\n" in output("other.yaml")
    where = outside / "outside_space.py"
    assert f"runs code from outside the current folder: {where}\n" in output(
        "../outside/study.yaml"
    )
    assert "runs code" not in output("study.yaml")
    assert "runs code" not in output("known.yaml")
