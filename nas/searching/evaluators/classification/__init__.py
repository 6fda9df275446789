"""Evaluate image classifiers: brief training in a search, certified measuring, replicates, final
training.
"""
