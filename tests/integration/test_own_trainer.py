"""The program of docs/bundle.md that trains an exported network by timm's parts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nas.export.timm_config import REGISTRY

pytest.importorskip("timm")

PAGE = Path(__file__).parents[2] / "docs" / "bundle.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
SIDE = 40
CLASSES = ("red", "blue")


@pytest.fixture
def folder(tmp_path):
    """Images of two classes, red and blue, in the folders that the program names."""
    pillow = pytest.importorskip("PIL.Image")
    random = torch.Generator().manual_seed(0)
    for split, count in (("train", 64), ("validation", 16)):
        for channel, name in zip((0, 2), CLASSES, strict=True):
            place = tmp_path / "images" / split / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(128, (SIDE, SIDE + 9, 3), generator=random)
                pixels[..., channel] += 127
                pillow.fromarray(pixels.to(torch.uint8).numpy()).save(place / f"{index}.png")
    return tmp_path


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("network", ["stock", "registered"])
def test_timm_trains_a_bundle_by_the_program_of_the_page(network, folder, bundle_of):
    """It learns to tell the classes apart, whether stock timm has the network or not, and saves the
    weights of a network with that many classes.
    """
    (program,) = BLOCK.findall(PAGE.read_text())
    shutil.copytree(bundle_of(network).folder, folder / "backbone")
    if network == "registered":
        shutil.copy(folder / "backbone" / f"{REGISTRY}.py", folder)
    else:
        program = re.sub(rf"import {REGISTRY}.*\n", "", program)
    program = program.replace('"batch_size": 64', '"batch_size": 16')
    (folder / "train.py").write_text(program.replace("EPOCHS = 10", "EPOCHS = 5"))
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    right, total = map(int, re.fullmatch(r"epoch \d+: (\d+) of (\d+) right", last).groups())
    assert total == 16 * len(CLASSES)
    assert right >= 0.9 * total, done.stdout
    weights = torch.load(folder / "trained.pth")
    assert weights["head.fc.bias"].shape == (len(CLASSES),)
