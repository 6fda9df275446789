"""Targets of a measurement, found by the name or file that a user types."""

import copy
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nas.core.architecture import Architecture
from nas.core.architecture_file import read_architecture
from nas.core.complexity import count
from nas.core.errors import InvalidValueError, UnknownNameError, foreign_code
from nas.core.foreign import is_foreign
from nas.core.measurement import MeasurementPlan
from nas.core.moved import import_attribute
from nas.core.published import PUBLISHED
from nas.measuring.metrics import seeded_network
from nas.measuring.runtimes import Network, OnnxFile
from nas.model import build
from nas.model.foreign import build_foreign, require_module
from nas.model.onnx_file import read_onnx
from nas.model.weights_file import load_weights

KINDS = (
    "a published VoVNet (vovnet39)",
    "architecture.json",
    "STUDY:TRIAL",
    "a folder of nas export",
    "a .onnx file",
    "timm:NAME",
    "torchvision:NAME",
    "module:callable",
)
"""The kinds of targets, as listed in the error about an unknown one."""
ARCHITECTURE_KINDS = KINDS[:4]
"""The kinds that have an architecture."""
NUM_CLASSES = 1000
"""Outputs of the classifier of a target that does not define them."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A network to measure: its name, the network that runs, and its architecture if it is one of
    ours.
    """

    name: str
    network: Network
    architecture: Architecture | None = None
    num_classes: int = NUM_CLASSES

    def macs(self, image_size: int) -> int | None:
        """Return the multiply-accumulates for one image.

        The operations of a network that is not ours are counted in a copy in float32 on the CPU.
        Returns None if that copy does not run, and for an ONNX file, whose operations are not
        counted here.
        """
        if self.architecture is not None:
            return count(self.architecture, image_size, self.num_classes).macs
        if isinstance(self.network, OnnxFile):
            return None
        counter = FlopCounterMode(display=False)
        try:
            network = copy.deepcopy(self.network).cpu().float().eval()
            with counter, torch.no_grad():
                network(torch.zeros(1, 3, image_size, image_size))
        except Exception:  # noqa: BLE001 - the network is not ours and may raise anything
            return None
        return int(counter.get_total_flops()) // 2


FindTrial = Callable[[str], tuple[Architecture, int]]
"""Returns the architecture of a recorded trial and its number of classes, by `STUDY:TRIAL`."""


def default_runtime(targets: Iterable[str]) -> str:
    """Return the runtime for targets that are measured together.

    It is ONNX Runtime if one of them is an ONNX file, which no other runtime executes.
    """
    is_onnx = any(Path(text).suffix == ".onnx" for text in targets)
    return "onnxruntime" if is_onnx else "eager"


def load_target(  # noqa: PLR0911 - one return for each kind
    text: str, plan: MeasurementPlan, find_trial: FindTrial
) -> Target:
    """Return the network that `text` names.

    Named architectures and trials get random weights with calibrated BatchNorm. Models of timm and
    torchvision are not pretrained, since times do not depend on the values. `module:callable` runs
    that module's code.

    Raises `UnknownNameError`, which lists the kinds of targets; `InvalidValueError` or
    `CorruptFileError` for a file that does not hold what its name promises; and
    `InvalidValueError` for whatever is raised by code that is not ours.
    """
    path = Path(text)
    if text in PUBLISHED:
        return _from_architecture(text, PUBLISHED[text], NUM_CLASSES, plan)
    if os.path.isdir(text):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return _from_bundle(path)
    if path.suffix == ".onnx":
        return Target(name=text, network=OnnxFile(data=read_onnx(path), name=text))
    if path.suffix == ".json":
        architecture, num_classes = read_architecture(path)
        return _from_architecture(text, architecture, num_classes or NUM_CLASSES, plan)
    if text.rpartition(":")[2].isdigit():
        return _from_architecture(text, *find_trial(text), plan)
    if is_foreign(text):
        return Target(name=text, network=build_foreign(text))
    if ":" in text:
        return Target(name=text, network=_from_callable(text))
    raise UnknownNameError("targets", text, KINDS)


def find_architecture(text: str, find_trial: FindTrial) -> Architecture:
    """Return the architecture of a published name, an architecture.json or `STUDY:TRIAL`.

    Raises `UnknownNameError`, which lists the kinds of targets, and the errors of `load_target`.
    """
    if text in PUBLISHED:
        return PUBLISHED[text]
    if Path(text).suffix == ".json":
        return read_architecture(Path(text))[0]
    if text.rpartition(":")[2].isdigit():
        return find_trial(text)[0]
    raise UnknownNameError("networks of this package", text, ARCHITECTURE_KINDS)


def _from_architecture(
    name: str, architecture: Architecture, num_classes: int, plan: MeasurementPlan
) -> Target:
    network = seeded_network(architecture, num_classes, plan.image_size, name)
    return Target(name=name, network=network, architecture=architecture, num_classes=num_classes)


def _from_bundle(folder: Path) -> Target:
    """Return the network of a folder of `nas export`, with its trained weights."""
    if not (folder / "architecture.json").is_file():
        raise InvalidValueError(
            f"{folder} is no folder of nas export: it holds no architecture.json"
        )
    architecture, num_classes = read_architecture(folder / "architecture.json")
    model = build(architecture, num_classes or NUM_CLASSES)
    load_weights(model, folder / "model.safetensors")
    return Target(
        name=str(folder),
        network=model,
        architecture=architecture,
        num_classes=num_classes or NUM_CLASSES,
    )


def _from_callable(text: str) -> nn.Module:
    """Return the network that the named object is, or that it returns when it is called."""
    with foreign_code(f"{text} cannot be built"):
        try:
            made = import_attribute(text)
        except (ImportError, AttributeError) as error:
            raise UnknownNameError(f"targets ({error})", text, KINDS) from error
        return require_module(made if isinstance(made, nn.Module) else made(), text)
