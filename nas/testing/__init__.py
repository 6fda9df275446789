"""Contracts that plugins must pass, as classes of tests, and evaluators and meters for tests."""
