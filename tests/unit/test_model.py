"""The torch module: its counts, its gradients, and the effect of each setting."""

import ast
import copy
import importlib.util
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.complexity import count, stage_sizes
from nas.core.errors import InvalidValueError
from nas.core.published import PUBLISHED
from nas.core.search_space import enumerate_params
from nas.model import VoVNet, build, vovnet
from nas.model.hooks import count_by_hooks
from search_spaces import osa_cifar, osa_detection, osa_tiny

SHIPPED = {
    "osa_cifar": osa_cifar.SPACE,
    "osa_detection": osa_detection.SPACE,
    "osa_tiny": osa_tiny.SPACE,
}


def weightless(architecture: Architecture, num_classes: int) -> VoVNet:
    """Build the network without memory or arithmetic."""
    with torch.device("meta"):
        return build(architecture, num_classes)


def seeded(architecture: Architecture, num_classes: int = 10) -> VoVNet:
    """Build the network with the same random weights every time."""
    torch.manual_seed(0)
    return build(architecture, num_classes)


def images(*shape: int) -> torch.Tensor:
    """Make the same random images every time."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def small(**changes: object) -> Architecture:
    """Build a narrow four-stage network with two blocks in the third stage."""
    stages = tuple(
        OsaStage(mid_channels=8, out_channels=out, num_layers=2, num_blocks=blocks)
        for out, blocks in ((12, 1), (16, 2), (16, 1), (20, 1))
    )
    return Architecture(**{"stem_channels": (8, 8, 12), "stages": stages, **changes})


SWITCHES = [
    dict(zip(("stem", "depthwise", "residual", "attention", "pool_padding"), values, strict=True))
    for values in product(Stem, (False, True), (False, True), Attention, PoolPadding)
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_hooks_and_formulas_agree_on_published_networks(name):
    """Both ways give the same counts at 224 pixels and 1000 classes."""
    assert count_by_hooks(weightless(PUBLISHED[name], 1000), 224) == count(
        PUBLISHED[name], 224, 1000
    )


@pytest.mark.parametrize("name", SHIPPED)
@settings(max_examples=15)
@given(data=st.data())
def test_hooks_and_formulas_agree_on_random_networks(name, data):
    """They agree at any point of any space (5x5 kernels, both pools, all switches) and for any
    image, square or not, odd or even.
    """
    space = SHIPPED[name]
    params = {
        choice.name: data.draw(st.sampled_from(choice.values), choice.name)
        for choice in space.choices
    }
    architecture = space.decode(params)
    size = data.draw(st.tuples(st.integers(65, 160), st.integers(65, 160)), "image size")
    num_classes = data.draw(st.sampled_from([0, 1, 10]), "num_classes")
    assert count_by_hooks(weightless(architecture, num_classes), size) == count(
        architecture, size, num_classes
    )


@pytest.mark.parametrize(("stem", "padding"), list(product(Stem, PoolPadding)))
def test_sizes_are_torch_s_for_every_small_image(stem, padding):
    """From one pixel on, shapes are the same, and the images that torch refuses are refused."""
    architecture = small(stem=stem, pool_padding=padding)
    model = seeded(architecture).eval()
    for pixels in range(1, 40):
        try:
            real = [
                tuple(feature.shape[2:])
                for feature in model.forward_features(images(1, 3, pixels, pixels))
            ]
        except RuntimeError:
            with pytest.raises(InvalidValueError):
                stage_sizes(architecture, (pixels, pixels))
        else:
            assert list(stage_sizes(architecture, (pixels, pixels))) == real


def test_counting_does_not_change_the_model():
    """Mode, statistics and hooks are the same as before."""
    model = seeded(small())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_by_hooks(model, 32)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda s: "-".join(str(value) for value in s.values())
)
def test_every_parameter_of_every_network_learns(switches):
    """Logits are finite and have the right shape. Every parameter has a finite gradient other than
    zero.
    """
    model = seeded(small(**switches))
    logits = model(images(4, 3, 64, 64))
    assert logits.shape == (4, 10)
    assert torch.isfinite(logits).all()
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda s: "-".join(str(value) for value in s.values())
)
def test_relu_in_place_changes_no_result(switches):
    """Features, logits and gradients equal those of the same network with ReLU out of place, bit
    for bit.
    """
    model = seeded(small(**switches))
    twin = copy.deepcopy(model)
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    batch = images(2, 3, 64, 64)
    for ours, theirs in zip(
        model.forward_features(batch), twin.forward_features(batch), strict=True
    ):
        assert torch.equal(ours, theirs)
    model(batch).square().sum().backward()
    twin(batch).square().sum().backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": Stem.CIFAR},
        {"stem": Stem.PAPER},
        {"residual": True},
        {"depthwise": True},
        {"attention": Attention.LAST},
        {"attention": Attention.ALL},
        {"pool_padding": PoolPadding.SAME},
    ],
    ids=str,
)
def test_each_switch_changes_the_network(changes):
    """A switch changes the weights, or the outputs for equal weights."""
    plain, switched = seeded(small()).eval(), seeded(small(**changes)).eval()
    shapes = [
        {name: value.shape for name, value in net.state_dict().items()} for net in (plain, switched)
    ]
    if shapes[0] == shapes[1]:
        switched.load_state_dict(plain.state_dict())
        batch = images(1, 3, 64, 64)
        assert not torch.equal(plain(batch), switched(batch))


def test_networks_are_equal_exactly_if_their_digests_are():
    """In the whole tiny space with one seed, outputs and digests correspond one to one."""
    space = osa_tiny.SPACE
    names = [choice.name for choice in space.choices]
    outputs = defaultdict(set)
    batch = images(1, 3, 32, 32)
    for values in enumerate_params(space):
        architecture = space.decode(dict(zip(names, values, strict=True)))
        with torch.no_grad():
            outputs[architecture.digest].add(tuple(seeded(architecture).eval()(batch)[0].tolist()))
    assert {len(each) for each in outputs.values()} == {1}
    assert len(set.union(*outputs.values())) == space.cardinality


@pytest.mark.parametrize(("stem", "padding"), list(product(Stem, PoolPadding)))
def test_feature_info_describes_the_real_features(stem, padding):
    """Channels, reduction and module of each stage are those of the computed features."""
    model = seeded(small(stem=stem, pool_padding=padding)).eval()
    seen = []
    for info in model.feature_info:
        model.get_submodule(info["module"]).register_forward_hook(
            lambda _, __, output: seen.append(output)
        )
    features = model.forward_features(images(1, 3, 64, 96))
    assert len(features) == len(model.feature_info) == 4
    for info, feature, output in zip(model.feature_info, features, seen, strict=True):
        assert feature is output
        assert feature.shape == (
            1,
            info["num_chs"],
            64 // info["reduction"],
            96 // info["reduction"],
        )


def test_published_strides_are_those_of_detectors():
    """VoVNet-39 has 256, 512, 768 and 1024 channels at strides 4, 8, 16 and 32 with both stems."""
    for name in ("vovnet39", "vovnet39_paper"):
        info = weightless(PUBLISHED[name], 0).feature_info
        assert [(each["num_chs"], each["reduction"]) for each in info] == [
            (256, 4),
            (512, 8),
            (768, 16),
            (1024, 32),
        ]


def test_without_classes_the_output_is_the_pooled_features():
    """They are the means of the last stage's features, and the state dict has no classifier."""
    model = seeded(small(), 0).eval()
    batch = images(2, 3, 64, 64)
    torch.testing.assert_close(model(batch), model.forward_features(batch)[-1].mean((2, 3)))
    assert not [name for name in model.state_dict() if name.startswith("head")]


@pytest.mark.parametrize(("bias", "gate"), [(-3.0, 0.0), (0.0, 0.5), (1.5, 0.75), (3.0, 1.0)])
def test_ese_scales_by_the_hard_sigmoid(bias, gate):
    """With zero weights the gate is relu6(bias + 3) / 6."""
    attention = vovnet.EffectiveSe(6)
    nn.init.zeros_(attention.fc.weight)
    nn.init.constant_(attention.fc.bias, bias)
    maps = images(2, 6, 5, 5)
    assert torch.equal(attention(maps), maps * gate)


def test_a_block_is_that_of_the_paper():
    """The outputs of a chain of layers are concatenated once after the input and aggregated, and
    the identity is added.
    """
    torch.manual_seed(0)
    block = vovnet.OsaBlock(
        6,
        mid_channels=4,
        out_channels=6,
        num_layers=2,
        kernel_size=3,
        depthwise=False,
        attention=False,
        residual=True,
    ).eval()
    x = images(2, 6, 7, 7)
    first = block.conv_mid[0](x)
    second = block.conv_mid[1](first)
    assert torch.equal(block(x), x + block.conv_concat(torch.cat([x, first, second], dim=1)))


def test_initial_weights_are_kaiming_s():
    """The standard deviation is sqrt(2 / fan out) in every wide kernel, BatchNorm is the identity,
    and one seed gives one network.
    """
    model = seeded(PUBLISHED["vovnet27_slim"])
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
    again = seeded(PUBLISHED["vovnet27_slim"])
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )


def test_channels_last_is_kept():
    """No layer returns the other layout, so that nothing is copied."""
    model = seeded(small(residual=True, attention="all")).to(memory_format=torch.channels_last)
    batch = images(2, 3, 64, 64).to(memory_format=torch.channels_last)
    assert all(
        each.is_contiguous(memory_format=torch.channels_last)
        for each in model.forward_features(batch)
    )


@pytest.mark.parametrize("name", ["vovnet27_slim", "vovnet_v2_19_slim_dw"])
def test_one_graph_without_breaks(name):
    """The whole network is one graph for torch.compile and for torch.export."""
    architecture = replace(PUBLISHED[name], stem=Stem.PAPER)
    model = seeded(architecture).eval()
    batch = images(1, 3, 64, 64)
    with torch.no_grad():
        logits = model(batch)
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(batch), logits)
        assert torch.equal(torch.export.export(model, (batch,)).module()(batch), logits)


@pytest.mark.parametrize(
    "wrong", [{"stem": "resnet"}, {"attention": "eca"}, {"pool_padding": "valid"}]
)
def test_an_unknown_setting_is_refused(wrong):
    """The message names the setting and its possible values."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be one of"):
        VoVNet(**{**small().to_dict(), **wrong})


def test_the_model_file_stands_alone(tmp_path):
    """It imports only torch and the standard library, and a copy of the file elsewhere builds the
    same network.
    """
    source = Path(vovnet.__file__).read_text(encoding="utf-8")
    imports = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert {module.partition(".")[0] for module in modules} <= {"torch", *sys.stdlib_module_names}
    copied = tmp_path / "network.py"
    copied.write_text(source, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("network", copied)
    network = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(network)
    torch.manual_seed(0)
    theirs = network.VoVNet(**small().to_dict(), num_classes=10).eval()
    batch = images(1, 3, 64, 64)
    assert torch.equal(theirs(batch), seeded(small()).eval()(batch))
