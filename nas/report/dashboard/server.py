"""The web server uvicorn, without its log of requests."""

import socket
from contextlib import suppress

from fastapi import FastAPI

from nas.core.errors import InvalidValueError, MissingDependencyError

try:
    import uvicorn
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise MissingDependencyError("uvicorn", "serve") from error


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address of this machine; port 0 takes any free one.

    Raises `InvalidValueError` for an address of another machine, and for a port that is taken or
    that the user may not open.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        reason, _, _ = (getattr(error, "strerror", None) or str(error)).partition(" (while")
        raise InvalidValueError(
            f"port {port} of {host} cannot be opened: {reason}; name another one by --port, or "
            "another address of this machine by --host"
        ) from error


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve on this socket until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
