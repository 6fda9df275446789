"""The wider half of the CIFAR space without depthwise layers: 20 to 600 million MACs, some 2 to 15
ms on one CPU core.

The widest widths are VoVNet-27-slim's of its first three stages; with three stages instead of four
and a stem that may be narrow, since 64 and 128 channels at full resolution are a fifth of
VoVNet-27-slim's MACs on small images.
"""

from dataclasses import replace

from search_spaces import osa_cifar

SPACE = replace(
    osa_cifar.SPACE,
    stem_mid=(16, 24, 32, 64),
    stem_out=(16, 24, 32, 64),
    mid_channels=((16, 24, 32, 64), (24, 40, 56, 80), (32, 48, 64, 96)),
    out_channels=((32, 48, 64, 128), (64, 96, 128, 256), (96, 128, 192, 384)),
    num_layers=(3, 4, 5),
    depthwise=(False,),
)
