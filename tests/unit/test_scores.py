"""Scores of untrained networks, by definitions and closed forms, and the command that compares
them.
"""

import math
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from nas.cli import main
from nas.core import plugins
from nas.core.errors import NasError
from nas.core.study import Budget, Objective, StudySpec
from nas.measuring.metrics import untrained
from nas.measuring.metrics.untrained import naswot, scores, synflow
from nas.record import Store
from nas.searching.launch import open_search
from search_spaces.osa_tiny import SPACE

NAMES = plugins.names("nas.scores")


def test_naswot_counts_relus_that_agree(monkeypatch):
    """Units less the Hamming distance of the codes, image by image."""
    monkeypatch.setattr(untrained, "IMAGES", 5)
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.ReLU())
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first = network[0](images) > 0
        codes = torch.cat([first.flatten(1), (network(images) > 0).flatten(1)], dim=1).numpy()
    kernel = [[codes.shape[1] - (one != other).sum() for other in codes] for one in codes]
    assert naswot(network, 8) == pytest.approx(np.linalg.slogdet(kernel)[1])


def test_synflow_of_a_chain_is_its_length_times_the_flow():
    """Every linear layer without bias holds all of it."""
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 5, bias=False), nn.ReLU(), nn.Linear(5, 2, bias=False)
    )
    first, second = (network[i].weight.detach().double().abs().numpy() for i in (1, 3))
    assert synflow(network, 2) == pytest.approx(math.log(2 * (second @ first).sum()))


def test_scores_are_functions_of_the_architecture(monkeypatch):
    """Equal every time, whatever torch's generator has done, which is left as it was; entropies are
    at most those of equal components.
    """
    monkeypatch.setattr(untrained, "IMAGES", 4)
    network = SPACE.decode({choice.name: choice.values[0] for choice in SPACE.choices})
    torch.manual_seed(5)
    before, found = torch.get_rng_state(), scores(network, 32, 10, NAMES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert scores(network, 32, 10, NAMES) == found
    most = sum(stage.num_blocks * math.log(stage.out_channels) for stage in network.stages)
    assert 0 < found["expressivity"] <= most
    assert all(map(math.isfinite, found.values()))


def nothing(_network, _image_size):
    """A score that is no number."""
    return math.nan


def test_a_score_that_is_no_number_is_refused():
    """By its name and the network's."""
    network = SPACE.decode({choice.name: choice.values[0] for choice in SPACE.choices})
    with pytest.raises(
        NasError, match=f"nothing: gave no number for network {network.digest[:12]}"
    ):
        scores(network, 32, 10, [f"{__name__}:nothing"])


def test_the_command_finds_the_studys_own_space(tmp_path, monkeypatch):
    """In the folder where it is called, as `nas search` does beside the study file."""
    (tmp_path / "space_of_scores.py").write_text("from search_spaces.osa_tiny import SPACE\n")
    monkeypatch.setattr(untrained, "IMAGES", 2)
    path, spec = (
        list(sys.path),
        StudySpec(
            name="own",
            space="space_of_scores:SPACE",
            sampler="random",
            budget=Budget(trials=12),
            objectives=(Objective(metric="error"), Objective(metric="macs")),
        ),
    )
    plugins.look_in(tmp_path)
    with (
        Store.open(tmp_path / "nas.db") as store,
        open_search(
            spec,
            store=store,
            workers=plugins.load("nas.workers", "local")(),
            folder=tmp_path,
            artifacts=tmp_path,
            evaluator="nas.testing.evaluators:ArithmeticEvaluator",
        ) as found,
    ):
        found.run()
    monkeypatch.setattr(sys, "path", path)
    del sys.modules["space_of_scores"]
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(main, ["bench", "scores"])
    assert shown.exit_code == 0, shown.output
    assert "12 networks of own" in shown.output


def test_the_command_compares_scores_with_errors(tmp_path, monkeypatch):
    """Each score has its row, and the model without one."""
    monkeypatch.setattr(untrained, "IMAGES", 2)
    record = f"sqlite:///{tmp_path}/nas.db"
    few = CliRunner().invoke(main, ["bench", "engine", "--trials", "3", "--database", record])
    assert few.exit_code == 0, few.output
    refused = CliRunner().invoke(main, ["bench", "scores", "--database", record])
    assert refused.exit_code != 0
    assert "12 are needed" in refused.output
    CliRunner().invoke(main, ["bench", "engine", "--trials", "14", "--database", record])
    shown = CliRunner().invoke(main, ["bench", "scores", "--database", record])
    assert shown.exit_code == 0, shown.output
    assert [line.split()[0] for line in shown.output.splitlines()[4:] if line.strip()] == [
        "none",
        *NAMES,
        "parameters",
        "macs",
    ]
