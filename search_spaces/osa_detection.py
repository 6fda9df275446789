"""Backbones for detectors: four stages, with every published VoVNet as a point.

The last stage has a 32nd of the image's resolution. Each stage offers twelve widths of the layers
in steps of 16, which include those of the slim and the full networks (64/128, 80/160, 96/192,
112/224). Six outputs include 112, 128 and 256, then 256/512, 384/768 and 512/1024. Numbers of
blocks reach VoVNet-99's 1, 3, 9, 3. There are 2 to 7 layers (the authors use 3 and 5, PP-HGNet 5 to
7, HGNetV2 3 to 6).

Both stems are offered: that of the authors' code, whose third convolution has stride 2, and that of
the paper, which ends in a max pool and costs a third more in VoVNet-27-slim. Kernels of 5x5 are
offered in the last two stages, as in HGNetV2. The padded pool rounds odd sizes as other backbones
do: at 300 pixels it gives 38, 19, 10, and the authors' pool gives 37, 18, 9.
"""

from nas.core.architecture import Attention, PoolPadding, Stem
from nas.core.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CODE, Stem.PAPER),
    stem_mid=(16, 24, 32, 48, 64),
    stem_out=(32, 48, 64, 96, 128),
    mid_channels=(
        tuple(range(16, 193, 16)),
        tuple(range(32, 209, 16)),
        tuple(range(48, 225, 16)),
        tuple(range(64, 241, 16)),
    ),
    out_channels=(
        (64, 96, 112, 128, 192, 256),
        (128, 192, 256, 320, 384, 512),
        (192, 256, 384, 512, 640, 768),
        (256, 384, 512, 640, 768, 1024),
    ),
    num_layers=(2, 3, 4, 5, 6, 7),
    num_blocks=((1, 2), (1, 2, 3), (1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4)),
    kernel_size=((3,), (3,), (3, 5), (3, 5)),
    residual=(False, True),
    depthwise=(False, True),
    attention=(Attention.NONE, Attention.LAST, Attention.ALL),
    pool_padding=(PoolPadding.CEIL, PoolPadding.SAME),
)
