"""`nas new`: a wish becomes a study file that a search takes as it stands."""

import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image

from nas.cli import main
from nas.core.errors import InvalidValueError
from nas.measuring.devices import book
from nas.searching import draft
from nas.searching.draft import (
    _workers_line,
    amount,
    at_once,
    parse_duration,
    picture_size,
    workers_of,
    yaml_text,
)
from nas.searching.study_file import read_study
from nas.searching.yaml_file import parse_yaml


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the current folder, in which nothing else is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_LOCK_DIR", str(tmp_path / "locks"))
    return tmp_path


def run(*arguments):
    """Run `nas new` with these arguments."""
    return CliRunner().invoke(main, ["new", *arguments])


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90 min", 5400), ("1h 30min", 5400), ("1.5 s", 1.5)]
)
def test_a_budget_is_a_time(text, seconds):
    """Hours, minutes and seconds add up."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 days", "2h!", "-2h"])
def test_any_other_budget_is_refused(text):
    """The message gives an example."""
    with pytest.raises(InvalidValueError, match="2h or 90 min"):
        parse_duration(text)


@pytest.mark.slow
def test_a_wish_becomes_a_study(folder, monkeypatch):
    """The file holds what was asked for, and is not written over."""
    monkeypatch.setattr(draft, "SAMPLE", 2)
    wish = ("my 1", "--data", "digits", "--limit", "latency 1 s", "--limit", "parameters 1 k")
    done = run(*wish, "--budget", "100h", "--runtime", "eager")
    assert done.exit_code == 0, done.output
    study = read_study(folder / "my 1" / "study.yaml")
    assert "nas search 'my 1/study.yaml'" in done.output
    assert {each.metric: each.limit for each in study.objectives} == {
        "error": None,
        "latency": 1.0,
        "parameters": 1000.0,
    }
    assert study.objectives[0].reference == pytest.approx(0.9)
    assert study.budget.wall_time_s == 360_000
    assert study.measurement.runtime == "eager"
    assert study.rungs[0].images == 3 * (1437 - study.data.validation_images)  # three epochs
    assert "latency of 2 random networks" in done.output
    assert "2 of them keep the limit of 1 s" in done.output
    assert "0 of them keep the limit of 1 k" in done.output
    written = folder / "my 1" / "study.yaml"
    before = written.read_bytes()
    again = run(*wish)
    assert again.exit_code == 2
    assert "exists already" in again.output
    assert written.read_bytes() == before


@pytest.mark.long
@pytest.mark.slow
def test_a_wish_for_a_device_elsewhere(folder, agents, monkeypatch):
    """Its random networks are measured there, and so will be those of the search."""
    monkeypatch.setattr(draft, "SAMPLE", 2)
    monkeypatch.setenv(book.BOOK_VARIABLE, str(folder / "devices.json"))
    wish = ("--data", "digits", "--budget", "100h", "--limit", "latency@board 1 s")
    with agents.unix(folder) as (entry, _):
        book.add("board", entry)
        one, other = run("one", *wish), run("other", *wish[:4], "--device", "board")
    assert (one.exit_code, other.exit_code) == (0, 0), one.output + other.output
    study = read_study(folder / "one" / "study.yaml")
    assert [each.key for each in study.objectives] == ["error", "latency@board"]
    assert "latency@board of 2 random networks" in one.output
    assert study.objectives[1].limit == 1.0
    study = read_study(folder / "other" / "study.yaml")
    assert [each.key for each in study.objectives] == ["error", "latency"]
    assert study.measurement.device == "board"


@pytest.mark.slow
@pytest.mark.long
def test_a_search_takes_the_study_as_it_stands(folder, monkeypatch):
    """Pictures of two classes become a front, with two networks in place of dozens."""
    monkeypatch.setattr(draft, "SAMPLE", 2)
    for part, count in (("train", 30), ("test", 5)):
        for number, colour in enumerate(["red", "blue"]):
            for image in range(count):
                file = folder / "pictures" / part / colour / f"{number}-{image}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (24, 24), colour).save(file)
    done = run("mine", "--data", "pictures", "--budget", "1h", "--limit", "macs 1 G")
    assert done.exit_code == 0, done.output
    written = folder / "mine" / "study.yaml"
    study = written.read_text()
    assert "trials: " in study
    written.write_text(re.sub(r"trials: \d+", "trials: 2\n  certify: false", study))
    ended = CliRunner().invoke(main, ["search", str(written)])
    assert ended.exit_code == 0, ended.output
    assert "front of mine after 2 trials" in ended.output


def test_the_size_of_pictures_is_their_median(tmp_path):
    """It is a multiple of 8; other files than pictures are passed over."""
    for number, side in enumerate([20, 47, 300]):
        file = tmp_path / "train" / "cat" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side + 10)).save(file)
    (file.parent / "notes.txt").write_text("no picture")
    assert picture_size(tmp_path) == 48


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--limit", "latency"), "a limit is such as 'latency 4 ms'"),
        (("--limit", "speed 4 ms"), "speed"),
        (("--limit", "latency 4 J"), "limit of latency: '4 J' is no quantity"),
        (("--limit", "error 5 %"), "error is what is minimized"),
        (("--limit", "latency@pi5 4 ms"), "no 'pi5' in devices; there are: cpu, cuda"),
        (("--limit", "latency@ 4 ms"), "'latency@DEVICE 4 ms'"),
        (("--limit", "macs@cpu 1 G"), "macs is the same on every device; limit macs, not macs@cpu"),
        (("--device", "pi5"), "no 'pi5' in devices; there are: cpu, cuda"),
        (("--limit", "latency 0 ms"), "limit of latency: must be more than 0, not 0 ms"),
        (("--data", "digits", "--image-size", "64"), "--image-size is for image folders"),
        (("--budget", "soon"), "2h or 90 min"),
        (("--data", "nowhere"), "has no pictures in folders of classes"),
    ],
)
def test_an_impossible_wish_is_one_line(folder, arguments, message):
    """Nothing is written, and the exit code is 2."""
    done = run("mine", *arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert list(folder.iterdir()) == []


def test_a_study_that_cannot_be_written_is_refused_at_once(folder):
    """Nothing is measured first."""
    (folder / "mine").write_text("a file in the place of the folder")
    done = run("mine", "--data", "digits")
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert len(done.output.strip().splitlines()) == 1


def test_a_picture_that_no_library_reads_is_passed_over(tmp_path, monkeypatch):
    """Pillow refuses very large pictures with an error of its own; the other ones have a size."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for number, side in enumerate([30, 31, 200]):
        file = tmp_path / "train" / "cat" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side)).save(file)
    assert picture_size(tmp_path) == 32


def test_the_budget_is_divided_among_48_networks():
    """Two workers for an hour; more time than three epochs take; less than is useful."""
    images, networks = amount(3600, 2, 1e-3, 45_000)
    assert networks == 48
    assert images == pytest.approx(1000 * (0.85 * 3600 * 2 / 48 - 6), abs=1)
    assert amount(72_000, 2, 1e-3, 45_000)[0] == 135_000
    with pytest.raises(InvalidValueError, match=r"only 8 networks .* at least 2 min"):
        amount(50, 2, 1e-3, 45_000)
    assert amount(120, 2, 1e-3, 45_000)[1] >= 12


def test_one_gpu_trains_at_the_pace_of_one():
    """Two workers share it. Of a processor each core has one."""
    gpu, cpu = workers_of("cuda", 64), workers_of("cpu", 64)
    assert (gpu.count, gpu.gpus, at_once(gpu)) == (2, 0.5, 1)
    assert (cpu.count, cpu.cpus, cpu.gpus, at_once(cpu)) == (64, 1, 0, 64)
    assert "{kind: tune, count: 2, cpus: 1, gpus: 0.5} " in _workers_line(gpu)
    assert "{kind: tune, count: 64, cpus: 1} " in _workers_line(cpu)


@pytest.mark.parametrize("text", ["2026", "yes", "null", "1.5", "my #1", "@home", "a, b", "é: x"])
def test_a_name_stays_the_same_text_in_the_file(text):
    """Without quotes YAML would read it as something else."""
    assert parse_yaml(f"name: {yaml_text(text)}") == {"name": text}
    assert parse_yaml(f"- {{device: {yaml_text(text)}}}") == [{"device": text}]
    assert yaml_text("my study") == "my study"


def in_ascii(folder, *arguments):
    """Run `nas new` in a locale without any letters but ASCII's, with a draft that is there."""
    code = (
        "from nas.cli import main\n"
        "from nas.searching import draft\n"
        "text = '# 216 \\xb5s\\n'\n"
        "draft.draft = lambda **_: draft.Draft(text=text, notes=())\n"
        "main()"
    )
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    return subprocess.run(
        [sys.executable, "-c", code, "new", *arguments],
        cwd=folder,
        env=os.environ | locale,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_study_file_does_not_depend_on_the_locale(folder):
    """It is in UTF-8, as a search reads it, and no other file is left."""
    done = in_ascii(folder, "mine", "--data", "digits")
    assert done.returncode == 0, done.stderr
    assert (folder / "mine" / "study.yaml").read_bytes() == "# 216 µs\n".encode()
    assert list((folder / "mine").iterdir()) == [folder / "mine" / "study.yaml"]


@pytest.mark.parametrize("arguments", [("mine", "--data", "图片"), ("图片", "--data", "digits")])
def test_a_name_that_is_no_text_in_the_locale_is_one_line(folder, arguments):
    """Nothing is measured first, and nothing is written."""
    done = in_ascii(folder, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "in this locale" in done.stderr
    assert list(folder.iterdir()) == []
