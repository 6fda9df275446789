"""Networks written from other papers: published counts, and torchvision's weights and outputs."""

import pytest
import torch
from torch import nn

from nas.core.published import PUBLISHED
from nas.model import build
from nas.model.densenet import DenseNet, DsodTrunk, densenet40
from nas.model.hooks import tally
from nas.model.peleenet import PeleeNet
from nas.paper.cifar_osa import osa_5_43, osa_12_20, with_bottleneck

ROWS = {
    # parameters in millions, GMACs, memory access cost and activations in millions, convolutions;
    # to the last digit
    "DenseNet-40": (densenet40, 32, 1.020, 0.265, 3.68, 0.45, 39),
    "DenseNet-67": (DsodTrunk, 224, 1.669, 2.409, 19.38, 6.59, 67),
    "PeleeNet": (PeleeNet, 224, 2.802, 0.508, 12.24, 2.97, 113),
}


@pytest.mark.parametrize("name", ROWS)
def test_counts_are_the_published_ones(name):
    """DenseNet-40's 3.68 M is the memory access cost that the VoVNet paper prints as 3.7 M. Pelee's
    paper has 2.80 M and 508 M.
    """
    make, pixels, parameters, gmacs, cost, activations, convolutions = ROWS[name]
    with torch.device("meta"):
        found = tally(make(), pixels)
    assert (round(found.parameters / 1e6, 3), round(found.macs / 1e9, 3)) == (parameters, gmacs)
    assert (round(found.memory_access_cost / 1e6, 2), round(found.activations / 1e6, 2)) == (
        cost,
        activations,
    )
    assert found.convolutions == convolutions


@pytest.mark.parametrize(
    ("make", "parameters", "mmacs"), [(osa_12_20, 1_122_538, 238.9), (osa_5_43, 1_168_131, 263.7)]
)
def test_osa_networks_have_the_macs_of_densenet40(make, parameters, mmacs):
    """Both are within a tenth of DenseNet-40's 264.8 MMACs."""
    with torch.device("meta"):
        found = tally(make(), 32)
    assert found.parameters == parameters
    assert round(found.macs / 1e6, 1) == mmacs


def test_the_bottleneck_saves_as_much_as_in_table_3():
    """27-slim at 300 pixels has 1.1 M parameters and 1.0 GMACs less."""
    slim = PUBLISHED["vovnet27_slim_paper"]
    with torch.device("meta"):
        without, with_it = tally(build(slim, 0), 300), tally(with_bottleneck(slim, 0), 300)
    assert round((without.parameters - with_it.parameters) / 1e6, 1) == 1.1
    assert round((without.macs - with_it.macs) / 1e9, 1) == 1.0


def test_torchvision_s_densenet_loads_and_gives_the_same_bits():
    """The names of parameters and the order of operations are torchvision's."""
    theirs = pytest.importorskip("torchvision").models.DenseNet(
        8, (2, 3), 16, bn_size=2, num_classes=5
    )
    ours = DenseNet(
        growth=8, layers=(2, 3), stem_channels=16, bottleneck=16, compression=0.5, num_classes=5
    )
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.eval()(image), theirs.eval()(image))


def bottlenecked():
    """Make 27-slim with the bottleneck and ten classes."""
    return with_bottleneck(PUBLISHED["vovnet27_slim"], 10)


@pytest.mark.parametrize("make", [densenet40, osa_12_20, osa_5_43, bottlenecked])
def test_every_parameter_learns(make):
    """Every layer takes part in the forward pass."""
    torch.manual_seed(0)
    model = make()
    nn.functional.cross_entropy(model(torch.randn(2, 3, 32, 32)), torch.tensor([1, 2])).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
