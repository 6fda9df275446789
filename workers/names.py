"""Parts that all kinds of workers share."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from nas.core import plugins
from nas.searching.evaluators import Evaluates, StudyContext, built_by

ANOTHER_SEARCH = (
    "a trial is running, but not in this process: does another search work on this study?"
)
"""The error of a search that has nothing to do although a trial is running."""


def worker_name() -> str:
    """Return the name of this process in the record."""
    return f"{socket.gethostname()}:{os.getpid()}"


def evaluator_class(context: StudyContext) -> type[Evaluates]:
    """Load the context's evaluator, with the study's folder on the import path."""
    plugins.add_import_folder(context.folder)
    evaluator: type[Evaluates] = plugins.load("evaluators", context.evaluator)
    return evaluator


@contextmanager
def evaluator_of(context: StudyContext) -> Iterator[Evaluates]:
    """Build the context's evaluator for the `with` block. At its end the evaluator is closed, if it
    has a method `close`.
    """
    evaluator = built_by(evaluator_class(context), context)
    try:
        yield evaluator
    finally:
        getattr(evaluator, "close", lambda: None)()
