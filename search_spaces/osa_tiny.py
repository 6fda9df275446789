"""A space for tests and first tries, small enough to list: 192 combinations, 128 networks.

Every network takes at most 5 million MACs at 32x32, so that one CPU core builds, measures and
trains one for some steps quickly. The numbers of blocks of the last stage, identity and eSE are
choices together, because settings without effect merge there: with one block, the 6 combinations of
the two switches are 2 networks.
"""

from nas.core.architecture import Attention, Stem
from nas.core.search_space import OsaSpace

SPACE = OsaSpace(
    stem=(Stem.CIFAR,),
    stem_mid=(4,),
    stem_out=(8,),
    mid_channels=((8,), (8, 12), (8,)),
    out_channels=((16,), (24,), (32,)),
    num_layers=((2,), (2, 3), (2,)),
    num_blocks=((1,), (1,), (1, 2)),
    kernel_size=((3,), (3,), (3, 5)),
    residual=(False, True),
    depthwise=(False, True),
    attention=(Attention.NONE, Attention.LAST, Attention.ALL),
)
