"""The ResNet whose seven widths Channel-Bench-Macro varies (Su et al., "BCNet", CVPR 2021), for
images of 32 pixels.

The code follows the benchmark's table of layers. Details that the table omits are chosen so that
the parameters and MACs of all 16,384 networks equal the published ones. In particular, the block
that halves the resolution has no shortcut.
"""

from collections.abc import Sequence

from torch import Tensor, nn

FULL = (256, 256, 256, 512, 512, 512, 512)
"""The largest values of the seven widths.

In order: the first stage, the middles of its two blocks, the middle of the block between the
stages, the second stage, the middles of its two blocks. A network has one to four quarters of each.
"""
QUARTERS = 4
"""Number of values of each width."""


def _normalised(in_channels: int, out_channels: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class Block(nn.Module):
    """Two 3x3 convolutions, (N, in, H, W) to (N, out, H / stride, W / stride), with a shortcut if
    the shape stays the same.
    """

    def __init__(self, in_channels: int, middle: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normalised(in_channels, middle, stride),
            nn.ReLU(inplace=True),
            *_normalised(middle, out_channels),
        )
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = self.body(x)
        return self.relu(x + y if self.shortcut else y)  # type: ignore[no-any-return]


class WidthResNet(nn.Sequential):
    """The network, from images (N, 3, H, W) to logits (N, 10).

    `quarters` are the seven widths in quarters of `FULL`.
    """

    def __init__(self, quarters: Sequence[int]) -> None:
        first, one, two, between, second, three, four = (
            width * quarter // QUARTERS for width, quarter in zip(FULL, quarters, strict=True)
        )
        super().__init__(
            *_normalised(3, first, 2),
            nn.ReLU(inplace=True),
            Block(first, one, first),
            Block(first, two, first),
            Block(first, between, second, 2),
            Block(second, three, second),
            Block(second, four, second),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(second, 10),
        )
