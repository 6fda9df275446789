"""Networks of timm and torchvision, which are installed separately."""

import importlib

from torch import nn

from nas.core.architecture import Architecture
from nas.core.errors import InvalidValueError, foreign_code, require_package
from nas.core.foreign import ForeignNetwork
from nas.model import build


def build_any(network: Architecture | ForeignNetwork, num_classes: int) -> nn.Module:
    """Build an OSA network or one of another package, with random weights."""
    if isinstance(network, Architecture):
        return build(network, num_classes)
    return build_foreign(network.name, num_classes)


def build_foreign(text: str, num_classes: int | None = None) -> nn.Module:
    """Return the network that `timm:NAME` or `torchvision:NAME` names, with random weights.

    Without `num_classes` it has as many as its package gives it. Raises `MissingDependencyError`
    without the package, and `InvalidValueError` if the package cannot build it.
    """
    package, _, name = text.partition(":")
    require_package(package, "all")
    classes = {} if num_classes is None else {"num_classes": num_classes}
    with foreign_code(f"{text} cannot be built"):
        if package == "timm":
            model = importlib.import_module("timm").create_model(name, pretrained=False, **classes)
        else:
            model = importlib.import_module("torchvision.models").get_model(name, **classes)
    return require_module(model, text)


def require_module(made: object, text: str) -> nn.Module:
    """Return what foreign code made. Raises `InvalidValueError` unless it is a torch module."""
    if not isinstance(made, nn.Module):
        raise InvalidValueError(f"{text} gives a {type(made).__name__}, not a torch module")
    return made
