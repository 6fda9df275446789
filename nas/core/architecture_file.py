"""Reader of `architecture.json`: a plain architecture, or that of an exported network."""

import json
from pathlib import Path

from nas.core.architecture import Architecture
from nas.core.errors import MALFORMED, InvalidValueError


def read_architecture(path: Path) -> tuple[Architecture, int | None]:
    """Return the architecture in a JSON file, and its number of classes if the file is that of an
    exported network.

    Raises `InvalidValueError` with the path for a file that holds no architecture.
    """
    try:
        values = json.loads(path.read_bytes())
        if not isinstance(values, dict):
            raise InvalidValueError("not an architecture, which is a JSON object")
        if "architecture" in values:
            return Architecture.from_dict(values["architecture"]), len(values["classes"])
        return Architecture.from_dict(values), None
    except KeyError as error:
        raise InvalidValueError(f"{path}: {error} is missing") from error
    except OSError as error:
        raise InvalidValueError(f"{path}: {error.strerror}") from error
    except MALFORMED as error:
        raise InvalidValueError(f"{path}: {error}") from error
