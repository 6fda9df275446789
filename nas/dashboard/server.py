"""uvicorn, told to be quiet."""

from fastapi import FastAPI

from nas.errors import MissingDependencyError


def run(app: FastAPI, *, host: str, port: int) -> None:
    """Serve until Ctrl-C."""
    try:
        import uvicorn  # noqa: PLC0415 - of the same extra, but a package of its own
    except ImportError as error:
        raise MissingDependencyError("uvicorn", "serve") from error
    uvicorn.run(app, host=host, port=port, log_level="warning")
