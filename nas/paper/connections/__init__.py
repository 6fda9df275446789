"""How strongly layers are connected: mean |w| by source and target, what it says, and what is lost
without some.

The analysis of Huang et al. 2017 (DenseNet, figure 5) that the VoVNet paper argues with (Lee et al.
2019, figure 2). `strength` is arithmetic on arrays; `weights` finds the layers in files of weights;
`ablation` takes connections away.
"""
