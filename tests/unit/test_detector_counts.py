"""Parameters, MACs and boxes of the paper's detectors, counted on the meta device.

The counts of VoVNet's tables 2, 3 and 4 and of their parts were computed by an independent
prototype. The paper prints the same digits: table 4 rounded, or truncated with one decimal.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.core.architecture import Architecture, OsaStage, Stem
from nas.core.errors import InvalidValueError
from nas.core.moved import import_attribute
from nas.core.published import published
from nas.core.recipe import Recipe
from nas.model.hooks import tally
from nas.paper.cifar_osa import with_bottleneck
from nas.paper.peers import DETECTORS, PRINTED

pytest.importorskip("torchvision")
from nas import detection
from nas.detection import peer_bodies as bodies
from nas.detection.features import Features
from nas.detection.group_norm import group_norm
from nas.detection.systems import SYSTEMS, DetectorSpec

CLASSES_OF_VOC, CLASSES_OF_COCO = 20, 80
TABLE_4 = {  # parameters, MACs in G, their sum with BatchNorm outputs in G
    "VoVNet-39": ("vovnet39_paper", 56_283_844, 32.6262, 32.6555),
    "VoVNet-57": ("vovnet57_paper", 70_323_844, 36.4179, 36.4487),
    "ResNet-50": (lambda: bodies.ResNetBody(50), 63_459_460, 25.3992, 25.4339),
    "ResNet-101": (lambda: bodies.ResNetBody(101), 82_451_588, 32.9752, 33.0203),
    "DenseNet-201": (bodies.densenet201, 56_127_428, 24.5845, 24.6480),
    "DenseNet-161": (bodies.densenet161, 66_755_204, 32.6685, 32.7416),
    "VoVNet-27-slim": ("vovnet27_slim_paper", 33_264_836, 20.4262, 20.4502),
    "VoVNet-39, code": ("vovnet39", 56_283_844, 31.2106, None),
}
MASK_RCNN = {  # parameters, those of the body, those of the pyramid, G MACs of both
    "ResNet-50": (
        lambda: bodies.ResNetBody(50, levels=4, first_strided=False),
        (45_715_509, 23_508_032, 3_346_432, 148.48),
    ),
    "ResNet-101": (
        lambda: bodies.ResNetBody(101, levels=4, first_strided=False),
        (64_707_637, 42_500_160, 3_346_432, 228.03),
    ),
    "VoVNet-39": ("vovnet39", (43_455_093, 21_575_296, 3_018_752, 211.87)),
    "VoVNet-57": ("vovnet57", (57_495_093, 35_615_296, 3_018_752, 251.69)),
    "VoVNet-27-slim": ("vovnet27_slim", (24_564_853, 3_012_736, 2_691_072, 103.13)),
}

DENSENET_67 = {"DSOD300 DenseNet-67": 5.9}
"""The paper repeats the parameters of DSOD's README, which counts BatchNorm's statistics too."""


@pytest.fixture(autouse=True)
def meta():
    """Build and count without computing anything."""
    with torch.device("meta"):
        yield


def made(source):
    """Return a peer's body, or the name of a network."""
    return source() if callable(source) else source


def parameters(module):
    """Return the number of learned values."""
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", TABLE_4)
def test_refinedet_has_the_counts_of_table_4(name):
    """RefineDet320 with 81 classes has the printed parameters and FLOPs."""
    source, expected, macs, flops = TABLE_4[name]
    network = detection.refinedet(made(source), CLASSES_OF_COCO).network
    counts = tally(network, 320)
    assert counts.parameters == expected
    assert counts.macs / 1e9 == pytest.approx(macs, abs=5e-5)
    if flops is not None:
        assert (counts.macs + counts.norm_outputs) / 1e9 == pytest.approx(flops, abs=5.1e-5)


def test_the_parts_of_refinedet():
    """Each part of RefineDet on VoVNet-39 has its parameters and MACs."""
    network = detection.refinedet("vovnet39_paper", CLASSES_OF_COCO).network
    transfer = list(network.transfer)
    parts = {
        "body": network.features,
        "res6": network.extra,
        "transfer 1": nn.ModuleList(part[0] for part in transfer),
        "transfer 2": nn.ModuleList(part[1] for part in transfer),
        "merged": network.merged,
        "up": network.up,
        "arm blocks": network.arm_blocks,
        "odm blocks": network.odm_blocks,
        "arm predictors": nn.ModuleList([network.arm_deltas, network.arm_logits]),
        "odm predictors": nn.ModuleList([network.odm_deltas, network.odm_logits]),
    }
    with FlopCounterMode(display=False, depth=None) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 320, 320))
    assert counter.get_total_flops() == 2 * 32_626_201_600
    assert {name: parameters(part) for name, part in parts.items()} == {
        "body": 21_575_296,
        "res6": 870_912,
        "transfer 1": 6_490_112,
        "transfer 2": 2_361_344,
        "merged": 2_361_344,
        "up": 787_968,
        "arm blocks": 7_032_832,
        "odm blocks": 4_739_072,
        "arm predictors": 663_624,
        "odm predictors": 9_401_340,
    }


def test_refinedet_for_voc():
    """With 21 classes VoVNet-39 has fewer predictors, and 512 pixels have 16,320 boxes."""
    detector = detection.refinedet("vovnet39_paper", CLASSES_OF_VOC)
    counts = tally(detector.network, 320)
    assert (counts.parameters, detector.priors.shape) == (49_647_604, (6375, 4))
    assert counts.macs / 1e9 == pytest.approx(29.1011, abs=5e-5)
    large = detection.refinedet("vovnet39_paper", CLASSES_OF_VOC, image_size=512)
    assert large.priors.shape == (16_320, 4)


def test_dsod_has_the_counts_of_table_2():
    """DSOD300 has 5.9 M parameters and 5.6 G MACs on VoVNet-27-slim, 5.3 G on DenseNet-67."""
    own = detection.dsod("vovnet27_slim_paper", CLASSES_OF_VOC)
    counts = tally(own.network, 300)
    assert (counts.parameters, counts.macs) == (5_971_932, 5_663_451_392)
    assert counts.macs + counts.norm_outputs == 5_673_279_948
    assert own.priors.shape == (8108, 4)
    network = own.network
    assert parameters(network.features) == 3_012_736
    assert parameters(network.downs) == 709_376
    assert (parameters(network.deltas), parameters(network.logits)) == (359_664, 1_888_236)
    assert parameters(network.norms) == 1_920

    peer = detection.dsod(bodies.DenseNet67Body(), CLASSES_OF_VOC, downs=(256, 128, 128, 128))
    counts = tally(peer.network, 300)
    assert (counts.parameters, counts.macs) == (5_833_372, 5_297_838_848)
    assert counts.macs + counts.norm_outputs == 5_321_427_032
    statistics = [
        value for name, value in peer.network.named_buffers() if name.endswith(("_mean", "_var"))
    ]
    assert counts.parameters + sum(value.numel() for value in statistics) == 5_872_280
    assert peer.priors.shape == (8744, 4)


def test_the_bottleneck_has_the_counts_of_table_3():
    """A 1x1 convolution to half the channels saves 1.1 M parameters and 1.0 G MACs."""
    body = with_bottleneck(published("vovnet27_slim_paper"), 0)
    counts = tally(detection.dsod(body, CLASSES_OF_VOC).network, 300)
    assert (counts.parameters, counts.macs) == (4_871_612, 4_643_578_368)
    assert counts.macs + counts.norm_outputs == 4_654_681_164


@pytest.mark.parametrize("name", DETECTORS)
def test_counts_are_those_printed(name):
    """Each detector of `nas peers --detectors` has the parameters and FLOPs that the paper prints:
    truncated with one decimal, rounded with two.
    """
    peer, printed = DETECTORS[name], PRINTED[name]
    counts = tally(import_attribute(peer.target)(), peer.image_size)
    figures = [(counts.parameters, printed.parameters, 1e6)]
    figures += [(counts.macs + counts.norm_outputs, printed.macs, 1e9)]
    for count, value, unit in figures:
        if value is not None:
            shown = round(value / unit, 2)
            truncated = int(10 * count / unit) / 10
            assert shown in {round(count / unit, 2), truncated, DENSENET_67.get(name)}


@pytest.mark.parametrize("name", MASK_RCNN)
def test_mask_rcnn_has_the_counts_of_its_parts(name):
    """Body, pyramid and heads have the counts of torchvision's parts with GroupNorm."""
    source, (total, body, pyramid, macs) = MASK_RCNN[name]
    detector = detection.mask_rcnn_gn(made(source), CLASSES_OF_COCO)
    assert parameters(detector) == total
    assert parameters(detector.backbone.features) == body
    assert parameters(detector.backbone.fpn) == pyramid
    assert parameters(detector.rpn) == 593_935
    heads = detector.roi_heads
    assert parameters(heads.box_head) + parameters(heads.mask_head) == 15_207_424 + 2_361_344
    assert parameters(heads.box_predictor) == 415_125
    assert parameters(heads.mask_predictor) == 283_217
    assert tally(detector.backbone, (800, 1344)).macs / 1e9 == pytest.approx(macs, abs=5e-3)
    assert not [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]


def test_the_heads_of_mask_rcnn_have_their_macs():
    """The heads cost 128.87 G for 1000 regions of boxes and 53.01 G for 100 of masks."""
    heads = detection.mask_rcnn_gn("vovnet27_slim", CLASSES_OF_COCO).roi_heads
    for modules, regions, side, giga in (
        ((heads.box_head, heads.box_predictor), 1000, 7, 128.87),
        ((heads.mask_head, heads.mask_predictor), 100, 14, 53.01),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            x = torch.zeros(regions, 256, side, side)
            for module in modules:
                x = module(x)
        assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=5e-3)


def narrow(stem=Stem.CODE, stages=4):
    """Return a narrow network."""
    stage = OsaStage(mid_channels=8, out_channels=16, num_layers=2)
    return Architecture(stem_channels=(8, 8, 16), stages=(stage,) * stages, stem=stem)


@pytest.mark.parametrize("stages", [3, 4])
@pytest.mark.parametrize("kind", ["dsod", "refinedet"])
def test_counts_on_meta_equal_those_of_a_network_that_runs(kind, stages):
    """The network that computes has the counts of the one on the meta device."""
    options = {"width": 16, "predictor_width": 32, "extra": 64} if kind == "refinedet" else {}
    build = getattr(detection, kind)
    on_meta = build(narrow(stages=stages), 3, image_size=128, **options)
    with torch.device("cpu"):
        real = build(narrow(stages=stages), 3, image_size=128, **options)
        outputs = real.network.eval()(torch.zeros(1, 3, 128, 128))
        assert tally(real.network, 128) == tally(on_meta.network, 128)
    assert {value.shape[1] for value in outputs} == {len(real.priors)}


def test_three_stages_get_further_maps():
    """A network of strides 4, 8 and 16 has four maps in RefineDet and six in DSOD."""
    refinedet = detection.refinedet(narrow(stages=3), 3)
    assert (len(refinedet.network.extra), refinedet.priors.shape) == (2, (6375, 4))
    dsod = detection.dsod(narrow(stages=3), 3)
    assert (len(dsod.network.features.strides), len(dsod.network.downs)) == (2, 4)


def test_dsod_stops_at_a_map_of_one_pixel():
    """An image of 64 pixels has maps of 8, 4, 2 and 1 pixels, of 4, 6, 6 and 6 boxes a cell."""
    detector = detection.dsod(narrow(), 3, image_size=64)
    assert len(detector.network.downs) == 1
    assert detector.priors.shape == (64 * 4 + 16 * 6 + 4 * 6 + 6, 4)


def spec(system, architecture, **options):
    """Return the specification of a system with 320 pixels and one class."""
    return DetectorSpec(
        system=system,
        architecture=architecture,
        classes=("cell",),
        image_size=320,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        recipe=Recipe(epochs=1.0),
        options=options,
    )


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_small_stride_is_refused(system):
    """A network whose stem keeps the resolution is refused, with the stems that fit."""
    with pytest.raises(InvalidValueError, match=r"has stride 1, .* needs 4 .* code or paper"):
        spec(system, narrow(Stem.CIFAR)).build()


@pytest.mark.parametrize("side", [0, 300, 352])
def test_refinedet_refuses_other_sides(side):
    """Sides that are no multiples of 64 are refused, with those that fit."""
    with pytest.raises(InvalidValueError, match=f"multiple of 64, .* 320, .* not {side}"):
        detection.refinedet("vovnet27_slim", 3, image_size=side)


@pytest.mark.parametrize(
    ("system", "option", "value", "line"),
    [
        ("fcos", "width", 32, "the width of fcos must be a multiple of 32 from 64, not 32"),
        ("fcos", "width", 72, "the width of fcos must be a multiple of 32 from 64, not 72"),
        ("refinedet320", "extra", 3, "the width extra must be at least 4, not 3"),
        ("refinedet320", "width", 0, "width must be at least 1, not 0"),
        ("mask_rcnn", "dense", 0, "dense must be at least 1, not 0"),
        ("mask_rcnn", "width", 6, "multiples of 4"),
        ("dsod300", "down", -1, "down must be at least 0, not -1"),
    ],
)
def test_a_width_that_cannot_be_trained_is_refused(system, option, value, line):
    with pytest.raises(InvalidValueError, match=line):
        spec(system, published("vovnet27_slim"), **{option: value}).build()


def test_group_norm_takes_the_groups_that_divide():
    """Slim widths have 16 groups. Fewer than 4 groups are refused."""
    assert [group_norm(width).num_groups for width in (64, 80, 112, 36)] == [32, 16, 16, 4]
    with pytest.raises(InvalidValueError, match=r"multiples of 4, .* not 18"):
        group_norm(18)
    odd = replace(narrow(), stem_channels=(6, 8, 16))
    with pytest.raises(InvalidValueError, match="not 6"):
        detection.mask_rcnn_gn(odd, 3)


def test_features_of_a_name_are_those_of_the_architecture():
    """A published name gives its stages, and levels select among them."""
    features = Features("vovnet27_slim", ("c3", "c5"))
    assert (features.out_channels, features.strides) == ([256, 512], [8, 32])
