"""Benchmarks of osa-nas itself, run by `nas bench`: samplers, stopping rules, the record, training
and measurement.
"""
