"""Measure networks on a device: `metrics` use `methods`, and methods use `meters`; `session` runs
them on any target.
"""
