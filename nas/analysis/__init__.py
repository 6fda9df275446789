"""Estimates from recorded trials: posterior means, final trainings, agreement of rankings."""
