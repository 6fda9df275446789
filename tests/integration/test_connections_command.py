"""`nas connections` and `nas ablate` as a user types them."""

import csv
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from nas.cli import main
from nas.cli.paper.connections import _file_names
from nas.model.densenet import DenseNet


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder with `small.safetensors` and the same network as `small.pth`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    torch.manual_seed(0)
    model = DenseNet(growth=4, layers=(3, 4), stem_channels=6, small_images=True, num_classes=10)
    save_file(model.state_dict(), tmp_path / "small.safetensors")
    torch.save(model.state_dict(), tmp_path / "small.pth")
    return lambda *arguments: CliRunner().invoke(main, arguments, catch_exceptions=False)


def test_connections_are_printed_and_drawn(run, tmp_path):
    """Two files of one network have the same numbers, a name each, and one page."""
    done = run("connections", "small.safetensors", "small.pth", "-o", "out")
    assert done.exit_code == 0, done.output
    assert "block 2" in done.output
    files = {path.name: path for path in (tmp_path / "out").iterdir()}
    assert set(files) == {
        "connections.html",
        "small.csv",
        "small.png",
        "small-2.csv",
        "small-2.png",
    }
    assert files["small.csv"].read_text() == files["small-2.csv"].read_text()
    with files["small.csv"].open(newline="") as file:
        assert len(list(csv.DictReader(file))) == (1 + 2 + 3 + 4) + (1 + 2 + 3 + 4 + 5)
    assert files["connections.html"].read_text().count("<svg") == 2


def test_each_model_has_files_of_its_own():
    """A number that another file has in its name is passed over."""
    models = [Path(name) for name in ("net-2.pth", "net.pth", "a/net.pth", "net.pth", "b/net.pth")]
    assert _file_names(models) == ["net-2", "net", "net-3", "net-4"]


def test_a_folder_without_a_name_of_its_own_has_one(tmp_path, monkeypatch):
    """`.` and `..` are bundles too. A link has its own name, not that of its target."""
    (tmp_path / "backbone" / "inner").mkdir(parents=True)
    (tmp_path / "backbone" / "best").symlink_to("inner")
    monkeypatch.chdir(tmp_path / "backbone")
    assert _file_names([Path(), Path("best"), Path("inner/.."), Path("inner")]) == [
        "backbone",
        "best",
        "backbone-2",
        "inner",
    ]


def test_a_cut_is_tested_before_and_after(run):
    """The test images are those of the digits. The layers of a block lose all of its input."""
    done = run(
        "ablate",
        "small.pth",
        "--block",
        "2",
        "--layers",
        "2-4",
        "--sources",
        "0,1-",
        "--data",
        "digits",
    )
    assert done.exit_code == 0, done.output
    assert "(100.00%)" in done.output
    assert "before: " in done.output
    assert "of 360 images right" in done.output
    assert "points" in done.output


def test_a_cut_is_tested_on_images_of_the_users_own(run, tmp_path):
    """FOLDER/<class>/*, in the order of the classes' names."""
    for index in range(10):
        folder = tmp_path / "images" / f"class{index}"
        folder.mkdir(parents=True)
        Image.new("RGB", (60 + index, 50), (25 * index, 100, 0)).save(folder / "one.png")
    done = run(
        "ablate",
        "small.pth",
        "--block",
        "1",
        "--layers",
        "3",
        "--sources",
        "1",
        "--images",
        "images",
    )
    assert done.exit_code == 0, done.output
    assert done.output.count("of 10 images right") == 2


def test_images_of_other_classes_than_the_network_s_are_refused(run, tmp_path):
    """Labels are places among the folders, so that an accuracy would be that of other classes."""
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (60, 50)).save(tmp_path / "images" / name / "one.png")
    cut = ("--block", "1", "--layers", "3", "--sources", "1")
    done = run("ablate", "small.pth", *cut, "--images", "images")
    assert done.exit_code == 2
    assert done.stdout == ""
    (error,) = done.stderr.splitlines()
    assert error.startswith("error: small.pth has 10 classes and images has 2: ")


@pytest.mark.parametrize("command", [("connections",), ("ablate",)])
def test_prefixes_are_reported_and_diverged_weights_are_refused(run, tmp_path, command):
    """Both commands say which prefix they take off, and what is not finite in which file."""
    weights = torch.load(tmp_path / "small.pth", weights_only=True)
    torch.save({f"module.{name}": value for name, value in weights.items()}, "wrapped.pth")
    cut = ("--block", "2", "--layers", "2", "--sources", "1") if command == ("ablate",) else ()
    done = run(*command, "wrapped.pth", *cut)
    assert done.exit_code == 0, done.output
    assert done.stderr == "wrapped.pth: the prefix module. of every name is taken off\n"
    assert done.stdout == run(*command, "small.pth", *cut).stdout.replace(
        "small.pth", "wrapped.pth"
    )
    torch.save({name: value * torch.nan for name, value in weights.items()}, "diverged.pth")
    done = run(*command, "diverged.pth", *cut)
    assert done.exit_code == 2
    assert "diverged.pth: " in done.stderr
    assert "of features.conv0.weight are not finite" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--block", "1", "--layers", "2", "--sources", "x"), "not like"),
        (("--block", "4", "--layers", "2", "--sources", "1"), "there are: 1, 2"),
        (
            (
                "--block",
                "1",
                "--layers",
                "2",
                "--sources",
                "1",
                "--data",
                "digits",
                "--images",
                ".",
            ),
            "not both",
        ),
    ],
)
def test_mistakes_are_reported(run, arguments, reason):
    """The message has what would be right."""
    done = run("ablate", "small.pth", *arguments)
    assert done.exit_code == 2
    assert reason in done.output
