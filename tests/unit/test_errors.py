"""Errors as they travel from a worker's process to the one that tells the user."""

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
"""What these classes are made from; the others from their message."""


@pytest.mark.parametrize(
    "kind", sorted(set(_kinds(errors.NasError)), key=lambda kind: kind.__name__)
)
def test_an_error_is_the_same_on_the_other_side(kind):
    """Class, message, exit code and fields survive pickling, twice in a row."""
    error = kind(*MADE_FROM.get(kind, ("what was wrong, where, and what would be right",)))
    there = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(error))))  # noqa: S301 - made here
    assert type(there) is kind
    assert str(there) == str(error) != ""
    assert (there.exit_code, vars(there)) == (error.exit_code, vars(error))
