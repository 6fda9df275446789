"""Files of weights: reading them without running their code, and the checks that all of them need.

Every error names the file.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nas.core.errors import CorruptFileError, NasError

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training programs keep a state dict beside their own values."""
WRAPPER_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Prefixes that DataParallel, `torch.compile` and Lightning add to the name of every weight."""
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
"""Codes for bold text in the messages of torch."""


def read_state_dict(path: Path, report: Callable[[str], object]) -> dict[str, Tensor]:
    """Read a state dict from a .pth, .pt or .safetensors file, without the prefixes of wrappers.

    No code of the file runs. `report` is called with one line if prefixes are taken off. Raises
    `CorruptFileError` with the path for a file without a state dict.
    """
    with names_file(path):
        content: Any = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
        if not isinstance(content, dict) or not all(
            isinstance(value, Tensor) for value in content.values()
        ):
            raise CorruptFileError(f"{path} holds no mapping from names to tensors")
    weights, prefix = strip_prefixes(content)
    if prefix:
        report(f"{path}: the prefix {prefix} of every name is taken off")
    return weights


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a safetensors file into a model that has exactly these weights.

    Raises `CorruptFileError` with the path if the file is not readable, does not fit the model or
    holds values that are not finite.
    """
    with names_file(path):
        weights = load_file(path)
    require_finite(path, weights)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise CorruptFileError(
            f"{path} does not hold the weights of this network: {_reason(error)}"
        ) from error


def require_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Raise `CorruptFileError` with the path and the first tensor that holds NaN or infinity."""
    for name, value in weights.items():
        # torch has no isfinite for numbers of 8 bits
        comparable = value.float() if value.dtype.itemsize == 1 else value
        finite = comparable.isfinite()
        if not finite.all():
            raise CorruptFileError(
                f"{path}: {int((~finite).sum()):,} of the {value.numel():,} values of {name} are "
                "not finite, as after a training that diverged; give weights without NaN and "
                "infinity"
            )


def strip_prefixes(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Return the weights without the prefixes that wrappers added to every name, and the prefixes.

    Wrappers may be nested: `module._orig_mod.` is two of them.
    """
    stripped, taken_off = dict(weights), ""
    while prefix := _common_prefix(stripped):
        stripped = {name.removeprefix(prefix): value for name, value in stripped.items()}
        taken_off += prefix
    return stripped, taken_off


def _common_prefix(weights: Mapping[str, Tensor]) -> str | None:
    for prefix in WRAPPER_PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            return prefix
    return None


@contextmanager
def names_file(path: Path, kind: str = "file of weights") -> Iterator[None]:
    """Turn whatever a library raises about a file into one line with its path.

    torch alone raises seven kinds of errors, among them `KeyError` for a text file.
    """
    try:
        yield
    except NasError:
        raise
    except Exception as error:
        raise CorruptFileError(f"{path} is not a readable {kind}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return one line about the error. torch advises to run the file's code, which is left out."""
    text = " ".join(ESCAPE.sub("", str(error)).split())
    if text.startswith("Weights only load failed"):
        return (
            "it is damaged or holds more than numbers; save model.state_dict() and give that file"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _unpickle(path: Path) -> Any:
    """Read a pickle of numbers, and the state dict in it if it is wrapped."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        for key in WRAPPERS:
            if isinstance(content.get(key), dict):
                return content[key]
    return content
