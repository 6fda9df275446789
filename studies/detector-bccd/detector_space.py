"""Narrow networks for DSOD at 160 pixels, with VoVNet-27-slim as the widest point.

One block per stage and plain kernels of 3x3, as in VoVNet-27-slim. Both stems are offered. The
padded pool keeps 20, 10 and 5 cells of the image, and the authors' pool 19, 9 and 4.
"""

from nas.core.architecture import Attention, PoolPadding, Stem
from nas.core.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CODE, Stem.PAPER),
    stem_mid=(16, 32, 64),
    stem_out=(32, 64, 128),
    mid_channels=(
        (16, 24, 32, 48, 64),
        (24, 32, 48, 64, 80),
        (32, 48, 64, 80, 96),
        (48, 64, 80, 96, 112),
    ),
    out_channels=(
        (48, 64, 96, 128),
        (64, 96, 128, 192, 256),
        (96, 128, 192, 256, 384),
        (128, 192, 256, 384, 512),
    ),
    num_layers=(2, 3, 4, 5),
    num_blocks=((1,), (1,), (1,), (1,)),
    kernel_size=((3,), (3,), (3,), (3,)),
    residual=(False,),
    depthwise=(False,),
    attention=(Attention.NONE, Attention.LAST),
    pool_padding=(PoolPadding.CEIL, PoolPadding.SAME),
)
