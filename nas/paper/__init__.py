"""The VoVNet paper retold on this device: its peers, its networks for CIFAR, its analysis of
connections.
"""
