"""Errors survive the way from a worker's process to that of the command line."""

import pickle

import pytest

from nas.core import errors


def _kinds(kind):
    for each in kind.__subclasses__():
        yield each
        yield from _kinds(each)


MADE_FROM = {
    errors.StudyFileError: ("study.yaml", ["name: missing", "space: missing"]),
    errors.UnknownNameError: ("nas.samplers", "gamma", ["tpe", "random"]),
    errors.MissingDependencyError: ("pillow", "folder"),
    errors.WriteError: ("/full/rung-1.safetensors", OSError(28, "No space left on device")),
}
"""Arguments of these classes; all others take their message."""


@pytest.mark.parametrize(
    "kind", sorted(set(_kinds(errors.NasError)), key=lambda kind: kind.__name__)
)
def test_a_pickled_error_is_restored_unchanged(kind):
    """Class, message, exit code and fields survive pickling, twice in a row."""
    error = kind(*MADE_FROM.get(kind, ("what was wrong, where, and what would be right",)))
    there = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error))))  # noqa: S301 - made here
    assert type(there) is kind
    assert str(there) == str(error) != ""
    assert (there.exit_code, vars(there)) == (error.exit_code, vars(error))
