"""Networks for images of 32x32: three stages at full, half and quarter resolution.

The stem keeps the full resolution. The smallest networks take 1.6 (separable) and 4.0 million MACs.
The first three stages of VoVNet-27-slim are the widest (stem 64, 64, 128; layers 64, 80, 96;
outputs 128, 256, 384; five layers each). Costs grow with the squares of the widths, so that widths
are spaced by factors of 1.3 to 2, and narrow ones more closely. Half of the networks drawn at
random take less than 50 million MACs, which a CPU can train briefly. All widths are multiples of 4.

Depths include the authors' 3 and 5. Kernels of 5x5 are offered at low resolution, as in HGNetV2.
Stages with a second block make identity and the placement of eSE matter. The padding of the pools
changes only borders here, since all sizes are even; it is fixed.
"""

from nas.core.architecture import Attention, Stem
from nas.core.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CIFAR,),
    stem_mid=(8, 12, 16, 24, 32, 64),
    stem_out=(8, 12, 16, 24, 32, 64, 128),
    mid_channels=((8, 12, 16, 24, 32, 64), (8, 12, 16, 24, 40, 80), (12, 16, 24, 32, 48, 96)),
    out_channels=(
        (16, 24, 32, 48, 64, 128),
        (24, 32, 48, 64, 128, 256),
        (32, 48, 64, 96, 192, 384),
    ),
    num_layers=(2, 3, 4, 5),
    num_blocks=((1,), (1, 2), (1, 2)),
    kernel_size=((3,), (3, 5), (3, 5)),
    residual=(False, True),
    depthwise=(False, True),
    attention=(Attention.NONE, Attention.LAST, Attention.ALL),
)
