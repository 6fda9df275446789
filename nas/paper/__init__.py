"""The VoVNet paper's comparisons on this device: its peers, its networks for CIFAR, its analysis of
connections.
"""
