"""OSA in DenseNet-40's place, for images of 32x32 pixels, and VoVNet with a bottleneck: the paper's
two ablations.

Lee et al. 2019 put a one-shot aggregation where each of DenseNet-40's blocks is (12 layers of 20
channels, or 5 of 43, with about the same MACs). The text does not fix the stem and the transitions:
here a 3x3 convolution to 16 channels, as in DenseNet-40, and aggregations that keep all their
channels, also after the last block. At 32 pixels the two have 1,122,538 and 1,168,131 parameters,
238.9 and 263.7 MMACs.
"""

from torch import Tensor, nn

from nas.core.architecture import Architecture
from nas.model import build
from nas.model.vovnet import ConvNormAct, OsaBlock, VoVNet

STEM_CHANNELS = 16
BLOCKS = 3


class CifarOsa(nn.Module):
    """Three OSA blocks of `layers` convolutions of `width` channels at 32, 16 and 8 pixels; (N, 3,
    H, W) to logits.
    """

    def __init__(self, *, layers: int, width: int, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, STEM_CHANNELS, 3)
        self.blocks = nn.Sequential()
        channels = STEM_CHANNELS
        for index in range(BLOCKS):
            out = channels + layers * width
            self.blocks.append(
                nn.Sequential(
                    nn.AvgPool2d(2) if index else nn.Identity(),
                    OsaBlock(
                        channels,
                        mid_channels=width,
                        out_channels=out,
                        num_layers=layers,
                        kernel_size=3,
                        depthwise=False,
                        attention=False,
                        residual=False,
                    ),
                )
            )
            channels = out
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Give the logits (N, num_classes)."""
        y: Tensor = self.classifier(self.blocks(self.stem(x)).mean((2, 3)))
        return y


def osa_12_20(num_classes: int = 10) -> CifarOsa:
    """Blocks of 12 layers with 20 channels."""
    return CifarOsa(layers=12, width=20, num_classes=num_classes)


def osa_5_43(num_classes: int = 10) -> CifarOsa:
    """Blocks of 5 layers with 43 channels."""
    return CifarOsa(layers=5, width=43, num_classes=num_classes)


def with_bottleneck(architecture: Architecture, num_classes: int) -> VoVNet:
    """The network with a 1x1 convolution to half the width before each 3x3 convolution of its
    blocks (table 3).
    """
    model = build(architecture, num_classes)
    for block in (module for module in model.modules() if isinstance(module, OsaBlock)):
        convolutions = [
            module for module in block.conv_mid.modules() if isinstance(module, nn.Conv2d)
        ]
        for index, conv in enumerate(convolutions):
            half = conv.out_channels // 2
            block.conv_mid[index] = nn.Sequential(
                ConvNormAct(conv.in_channels, half),
                ConvNormAct(half, conv.out_channels, conv.kernel_size[0]),
            )
    return model
