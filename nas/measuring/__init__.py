"""Measure networks on a device. `metrics` use `methods`, methods use `meters`, and `session` runs
them on any target.
"""
