"""Errors of the agent and of the sensors that it shares with local meters."""


class SensorError(Exception):
    """A sensor that cannot be read; the message gives the reason."""


class NetworkError(Exception):
    """A network that cannot be loaded or run as asked; the message is one line."""


class RefusedError(Exception):
    """A request that is refused, with its HTTP status and one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
