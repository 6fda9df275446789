"""Strength of the connections between layers: mean |w| by source and target, and the accuracy that
a network loses without some of them.

The analysis of Huang et al. 2017 (DenseNet, figure 5), which the VoVNet paper's argument uses (Lee
et al. 2019, figure 2). `strength` is arithmetic on arrays, `weights` finds the layers in files of
weights, and `ablation` removes connections.
"""
