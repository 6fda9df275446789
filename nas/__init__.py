"""osa-nas: hardware-aware neural architecture search over the OSA (One-Shot Aggregation, VoVNet)
design space.
"""
