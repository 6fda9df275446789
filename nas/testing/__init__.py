"""Contracts that plugins have to pass, as classes of tests, and evaluators that need neither data
nor time.
"""
