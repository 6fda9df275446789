"""Small dense networks for images of 32 pixels, 0.8 to 60 million MACs.

A core trains one briefly in 3 to 20 seconds. The space reaches far down, because between 10 and 50
million MACs a brief training hardly tells networks apart: on CIFAR-10 the smallest network errs by
61 %, one of 4 million MACs by 58 %, of 21 million by 53 %, and the largest by 51 % (two trainings
each by the quickstart's rung).
"""

from dataclasses import replace

from search_spaces import osa_cifar

SPACE = replace(
    osa_cifar.SPACE,
    stem_mid=(4, 8, 12, 16),
    stem_out=(4, 8, 16, 24),
    mid_channels=((4, 8, 16, 24), (4, 8, 24, 40), (8, 16, 32, 48)),
    out_channels=((8, 16, 32, 48), (12, 24, 48, 64), (16, 32, 64, 128)),
    num_layers=(1, 2, 3, 4),
    num_blocks=(1,),
    kernel_size=(3,),
    depthwise=(False,),
)
