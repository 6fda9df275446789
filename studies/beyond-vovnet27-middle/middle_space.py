"""Between the two of the first search: of networks drawn at random half take 60 to 200 million
MACs, half 200 to 590.

What the first search's 48 networks had in common at their best: no eSE, one block per stage, a
narrow first stage. So these are fixed or kept narrow here, and the second and the third stage may
be wider than VoVNet-27-slim's.
"""

from dataclasses import replace

from nas.core.architecture import Attention
from search_spaces import osa_cifar

SPACE = replace(
    osa_cifar.SPACE,
    stem_mid=(24, 32, 48, 64),
    stem_out=(32, 48, 64),
    mid_channels=((16, 24, 32, 48), (48, 64, 80, 112), (48, 64, 96, 128, 192)),
    out_channels=((32, 48, 64, 96), (96, 128, 192, 256), (128, 192, 256, 384)),
    num_layers=(2, 3, 4),
    num_blocks=((1,), (1,), (1,)),
    depthwise=(False,),
    attention=(Attention.NONE,),
)
