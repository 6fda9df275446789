"""Networks for images of 32x32: three stages at full, half and quarter resolution behind the stride-1 stem.

The smallest takes 2 million MACs, the largest without the larger kernel and second blocks has the widths and depth of
VoVNet-27-slim's first three stages (stem 64, 64, 128; layers 64, 80, 96; outputs 128, 256, 384; five layers).
Widths are spaced by about a factor of 1.5, because cost grows with their square: a network drawn at random then takes
some tens of million MACs, which trains briefly on a CPU, instead of nearly as many as the largest. All are multiples
of 8, which CPU and GPU kernels like. Depths hold the paper's 3 and 5; 5x5 kernels are offered where the resolution is
low, as HGNetV2 does; a second block makes identity and eSE's placement matter. The pool's padding changes nothing
here but the border (sizes are even) and is fixed.
"""

from nas.architecture import Attention, Stem
from nas.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CIFAR,),
    stem_mid=(8, 16, 24, 32, 48, 64),
    stem_out=(16, 24, 32, 48, 64, 96, 128),
    mid_channels=((8, 16, 24, 32, 48, 64), (8, 16, 24, 32, 40, 56, 80), (16, 24, 32, 48, 64, 96)),
    out_channels=((16, 24, 32, 48, 64, 96, 128), (32, 48, 64, 96, 128, 192, 256), (48, 64, 96, 128, 192, 256, 384)),
    num_layers=(2, 3, 4, 5),
    num_blocks=(1, 2),
    kernel_size=((3,), (3, 5), (3, 5)),
    residual=(False, True),
    depthwise=(False, True),
    attention=(Attention.NONE, Attention.LAST, Attention.ALL),
)
