"""The narrower half of the CIFAR space: networks that one CPU core trains for an epoch in a minute
or three.
"""

from dataclasses import replace

from search_spaces.osa_cifar import SPACE as CIFAR

SPACE = replace(
    CIFAR,
    stem_mid=(8, 12, 16),
    stem_out=(8, 12, 16, 24),
    mid_channels=((8, 12, 16), (8, 12, 16, 24), (12, 16, 24, 32)),
    out_channels=((16, 24, 32), (24, 32, 48, 64), (32, 48, 64, 96)),
)
