"""The networks of the paper's two ablations: DenseNet-40 with OSA blocks, and VoVNet with a
bottleneck.

Lee et al. 2019 replace each block of DenseNet-40 by a one-shot aggregation: 12 layers of 20
channels, or 5 layers of 43 channels with about the same MACs. Their text does not define the stem
and the transitions. Here the stem is a 3x3 convolution to 16 channels, as in DenseNet-40, and
every aggregation keeps all its channels, also after the last block. At 32x32 pixels the two
networks have 1,122,538 and 1,168,131 parameters, and 238.9 and 263.7 MMACs.
"""

from torch import Tensor, nn

from nas.core.architecture import Architecture
from nas.model import build
from nas.model.vovnet import ConvNormAct, OsaBlock, VoVNet

STEM_CHANNELS = 16
"""Output channels of the first convolution."""
NUM_BLOCKS = 3
"""OSA blocks, one for each resolution."""


class CifarOsa(nn.Module):
    """Three OSA blocks of `layers` convolutions with `width` channels, at full, half and quarter
    size of the image. Maps (N, 3, H, W) to logits.
    """

    def __init__(self, *, layers: int, width: int, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, STEM_CHANNELS, 3)
        self.blocks = nn.Sequential()
        channels = STEM_CHANNELS
        for index in range(NUM_BLOCKS):
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
        """Return the logits (N, num_classes)."""
        y: Tensor = self.classifier(self.blocks(self.stem(x)).mean((2, 3)))
        return y


def osa_12_20(num_classes: int = 10) -> CifarOsa:
    """Build the network with blocks of 12 layers with 20 channels."""
    return CifarOsa(layers=12, width=20, num_classes=num_classes)


def osa_5_43(num_classes: int = 10) -> CifarOsa:
    """Build the network with blocks of 5 layers with 43 channels."""
    return CifarOsa(layers=5, width=43, num_classes=num_classes)


def with_bottleneck(architecture: Architecture, num_classes: int) -> VoVNet:
    """Build the network with a 1x1 convolution to half the channels before each convolution of its
    blocks (table 3 of the paper).
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
