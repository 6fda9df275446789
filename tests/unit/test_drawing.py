"""Drawing of one architecture as text: a golden picture, published counts, and a width that fits
every network.
"""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nas.core.architecture import Architecture, Attention, OsaStage, PoolPadding, Stem
from nas.core.complexity import count
from nas.core.errors import InvalidValueError
from nas.core.published import PUBLISHED
from nas.report.drawing import draw

VOVNET_27_SLIM_HEAD = """\
  │ image                                                         3 x 224 x 224
┌─┴─ stem ─────────────────────────────────────────────────────────────────────┐
│ 3 → 3x3 64 /2 → 3x3 64 → 3x3 128 /2                                          │
└─┬────────────────────────────────────────────────────────────────────────────┘
  │                                                               128 x 56 x 56
┌─┴─ stage 2 ──────────────────────────────────────── 1 OSA block of 5 layers ─┐
│  128 ┬→ 3x3 64 ┬→ 3x3 64 ┬→ 3x3 64 ┬→ 3x3 64 ┬→ 3x3 64 ┐                     │
│  ┌───┴─────────┴─────────┴─────────┴─────────┴─────────┘                     │
│  └→ concat 448 → 1x1 128                                                     │
└─┬────────────────────────────────────────────────────────────────────────────┘
  │                                                               128 x 56 x 56
  │ max pool 3x3 /2, rounded up                                   128 x 28 x 28
"""

WITH_EVERYTHING = Architecture(
    stem_channels=(8, 8, 16),
    stem=Stem.PAPER,
    residual=True,
    depthwise=True,
    attention=Attention.LAST,
    pool_padding=PoolPadding.SAME,
    stages=(
        OsaStage(mid_channels=16, out_channels=32, num_layers=3, num_blocks=4),
        OsaStage(mid_channels=16, out_channels=48, num_layers=9, kernel_size=5),
        OsaStage(mid_channels=64, out_channels=64, num_layers=2, num_blocks=2),
    ),
)

LARGEST = Architecture(
    stem_channels=(8192, 8192, 8192),
    residual=True,
    depthwise=True,
    attention=Attention.ALL,
    stages=(
        OsaStage(mid_channels=8191, out_channels=8192, num_layers=64, num_blocks=64, kernel_size=5),
    )
    * 3,
)

widths = st.integers(1, 8192)
stages = st.builds(
    OsaStage,
    mid_channels=widths,
    out_channels=widths,
    num_layers=st.integers(1, 64),
    num_blocks=st.integers(1, 4),
    kernel_size=st.sampled_from((3, 5)),
)
architectures = st.builds(
    Architecture,
    stem_channels=st.tuples(widths, widths, widths),
    stages=st.lists(stages, min_size=3, max_size=4),
    stem=st.sampled_from(Stem),
    residual=st.booleans(),
    depthwise=st.booleans(),
    attention=st.sampled_from(Attention),
    pool_padding=st.sampled_from(PoolPadding),
)


def widest(drawing: str) -> int:
    """Return the length of the longest line."""
    return max(map(len, drawing.splitlines()))


def test_draws_vovnet_27_slim() -> None:
    """The widths are those of table 1 of the paper. The sizes follow from its strides, and the
    concatenation is 128 + 5 x 64.
    """
    assert draw(PUBLISHED["vovnet27_slim"], 224, 1000).startswith(VOVNET_27_SLIM_HEAD)


@pytest.mark.parametrize(
    ("name", "parameters", "mega_macs", "mega_elements"),
    [
        ("vovnet39", "22,600,296", 7072, 38.568),
        ("vovnet_v2_19_slim_dw", "1,897,752", 398, 13.033),
        ("vovnet_v2_57_timm", "38,608,936", 8932, 56.829),
    ],
)
def test_shows_published_counts(
    name: str, parameters: str, mega_macs: int, mega_elements: float
) -> None:
    """The last lines have the published parameters to the digit, and MACs and memory access cost as
    counted from the papers.
    """
    closing = " ".join(draw(PUBLISHED[name], 224, 1000).split("\n\n")[-1].split())
    found = re.fullmatch(
        r"(\S+) parameters .*\), (\S+) MACs, memory access cost (\S+) elements, .*", closing
    )
    assert found is not None
    assert found[1] == parameters
    assert int(found[2].replace(",", "")) // 1_000_000 == mega_macs
    assert round(int(found[3].replace(",", "")) / 1e6, 3) == mega_elements


@pytest.mark.parametrize("name", PUBLISHED)
def test_shares_of_every_column_add_up_to_100_percent(name: str) -> None:
    """The shares of the six parts are rounded to 0.1 %."""
    table = draw(PUBLISHED[name], 224, 1000).split("\n\n")[1].splitlines()[1:-1]
    columns = zip(
        *([float(share) for share in re.findall(r"([\d.]+)%", row)] for row in table), strict=True
    )
    sums = [sum(column) for column in columns]
    assert len(table) == 6
    assert sums == pytest.approx([100, 100, 100], abs=6 * 0.05 + 1e-9)


def test_draws_every_switch() -> None:
    """There is a reduction before separable convolutions if widths differ, a 5x5 kernel, an
    identity from the second block on, and eSE in the last block.
    """
    drawing = draw(WITH_EVERYTHING, 64, 10)
    lines = [line.strip("│ ") for line in drawing.splitlines()]
    assert "3 → 3x3 8 /2 → dw3x3 8 → dw3x3 16" in lines
    assert "16 ┬→ dw3x3 16 ┬→ dw3x3 16 ┬→ dw3x3 16 ┐" in lines  # 16 = 16: nothing to reduce
    assert "└→ concat 64 → 1x1 32" in lines  # 16 + 3 x 16
    assert "blocks 2 to 3: 32 → 1x1 16 → 3 x dw3x3 16 → concat 80 → 1x1 32 → + input" in lines
    assert "block 4: 32 → 1x1 16 → 3 x dw3x3 16 → concat 80 → 1x1 32 → eSE → + input" in lines
    assert any(line.startswith("32 ┬→ 1x1 16 ─→ dw5x5 16 ┬→") and "···" in line for line in lines)
    assert "└→ concat 176 → 1x1 48 → eSE" in lines  # 32 + 9 x 16
    assert drawing.count("max pool 3x3 /2, padding 1") == 3  # the paper's stem ends in one
    assert "mean of all positions → linear 10" in lines


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_fit_80_columns(name: str) -> None:
    """With and without the classifier, the boxes are exactly 80 columns wide."""
    assert widest(draw(PUBLISHED[name], 224, 1000)) == 80
    assert widest(draw(PUBLISHED[name], (608, 800), 0)) == 80


@settings(max_examples=60)
@example(architecture=LARGEST, height=2048, width=2048, num_classes=100_000)
@given(
    architecture=architectures,
    height=st.integers(64, 2048),
    width=st.integers(64, 2048),
    num_classes=st.integers(0, 100_000),
)
def test_any_network_fits_80_columns(
    architecture: Architecture, height: int, width: int, num_classes: int
) -> None:
    """Every box has straight walls, and the shape of every stage is shown."""
    drawing = draw(architecture, (height, width), num_classes)
    assert widest(drawing) == 80
    walls = [line for line in drawing.splitlines() if line.startswith(("┌", "│", "└"))]
    assert {len(line) for line in walls} == {80}
    for shape in count(architecture, (height, width), num_classes).stages:
        assert " x ".join(map(str, shape)) in drawing


def test_refuses_an_image_that_is_too_small() -> None:
    """Nothing of a 1x1 image remains after pools that round up without padding."""
    with pytest.raises(InvalidValueError, match="too small"):
        draw(PUBLISHED["vovnet39"], 1, 10)
