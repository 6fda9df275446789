"""The narrow end of the CIFAR space: 7 to 47 million MACs. A brief training takes half a minute on
one core.
"""

from dataclasses import replace

from search_spaces import osa_cifar

SPACE = replace(
    osa_cifar.SPACE,
    stem_mid=(8, 12, 16),
    stem_out=(8, 16, 24),
    mid_channels=((8, 12, 16, 24), (8, 16, 24, 40), (16, 24, 32, 48)),
    out_channels=((16, 32, 48), (24, 48, 64), (48, 64, 96, 128)),
    num_layers=(2, 3, 4),
    num_blocks=(1,),
    kernel_size=(3,),
    depthwise=(False,),
)
