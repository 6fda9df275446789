"""The web server uvicorn, without its log of requests."""

from fastapi import FastAPI

from nas.core.errors import MissingDependencyError


def run(app: FastAPI, *, host: str, port: int) -> None:
    """Serve until Ctrl-C. Raises `MissingDependencyError` without uvicorn."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError("uvicorn", "serve") from error
    uvicorn.run(app, host=host, port=port, log_level="warning")
