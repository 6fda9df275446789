"""uvicorn, told to be quiet."""

from fastapi import FastAPI

from nas.core.errors import MissingDependencyError


def run(app: FastAPI, *, host: str, port: int) -> None:
    """Serve until Ctrl-C."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError("uvicorn", "serve") from error
    uvicorn.run(app, host=host, port=port, log_level="warning")
