"""Benchmarks of osa-nas itself: samplers, stopping rules, the record, training and the instrument
(`nas bench`).
"""
