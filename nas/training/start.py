"""Weights of an earlier training as the beginning of another one."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from nas.core.errors import CorruptFileError
from nas.model.weights_file import names_file, require_finite
from nas.training.checkpoint import FORMAT, read_checkpoint

CLASSIFIER = ("head.fc.weight", "head.fc.bias")
"""Weights of the last layer, which depend on the classes."""


def start_from(model: nn.Module, path: Path) -> int | None:
    """Give the network the weights in this file, a checkpoint or the one of a bundle. A classifier
    of another number of classes is left out. Return that number, or None if nothing is left out.

    Raises `CorruptFileError` with the path if the weights are of another network.
    """
    with names_file(path):
        with safe_open(path, framework="pt") as file:
            is_checkpoint = (file.metadata() or {}).get("format") == FORMAT
        weights = dict(read_checkpoint(path).weights) if is_checkpoint else load_file(path)
    require_finite(path, weights)
    own, left_out = model.state_dict(), None
    for name in CLASSIFIER:
        if name in weights and name in own and len(weights[name]) != len(own[name]):
            left_out, weights[name] = len(weights[name]), own[name]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CorruptFileError(f"{path} does not fit this network: {reason}") from error
    return left_out
