"""A network in training as one safetensors file: weights, momentum, and how far it is trained.

The file is written beside its place and then renamed, so a file under its name is whole.
Safetensors hold numbers only: reading one runs no code.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nas.core.errors import CorruptFileError, WriteError
from nas.model.weights_file import names_file, require_finite

FORMAT = "osa-nas training 1"
"""The format's name, in the metadata of each file."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network after `epochs`.

    `weights` is its state dict, `momentum` has one buffer for each parameter that has one, and
    `digest` names the architecture. Other state of an optimizer is in `momentum` too, as
    `PARAMETER:KEY`, or `:NUMBER` for the steps of a group of parameters. `scaler` is the state of
    fp16's loss scaler, empty without. `average` is the running mean of the state dict, empty
    without. `train_s` and `energy_j` are the seconds and the joules that training took so far, and
    `loss` is the last mean loss. The last two are NaN if they were not recorded. `classes` are
    those of a network that was trained on image files, in the order of the logits. `curve` has the
    epochs at the end of each part of a final training, with the mean loss of that part.
    """

    epochs: float
    digest: str
    weights: Mapping[str, Tensor]
    momentum: Mapping[str, Tensor] = field(default_factory=dict)
    scaler: Mapping[str, Any] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)
    train_s: float = 0.0
    energy_j: float = math.nan
    loss: float = math.nan
    classes: tuple[str, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it to `path`, whole or not at all. Raises `WriteError` if that fails, for instance on a
    full disk.
    """
    groups = {
        "weights": checkpoint.weights,
        "momentum": checkpoint.momentum,
        "average": checkpoint.average,
    }
    tensors = {
        f"{group}.{name}": value.contiguous()
        for group, values in groups.items()
        for name, value in values.items()
    }
    metadata = {
        "format": FORMAT,
        "epochs": repr(float(checkpoint.epochs)),
        "digest": checkpoint.digest,
        "scaler": json.dumps(dict(checkpoint.scaler)),
        "train_s": repr(float(checkpoint.train_s)),
        "energy_j": repr(float(checkpoint.energy_j)),
        "loss": repr(float(checkpoint.loss)),
    }
    if checkpoint.classes:
        metadata["classes"] = json.dumps(checkpoint.classes)
    if checkpoint.curve:
        metadata["curve"] = json.dumps(checkpoint.curve)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, part, metadata)
        part.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            part.unlink()
        raise WriteError(path, error) from error


def read_checkpoint(path: Path, digest: str | None = None) -> Checkpoint:
    """Return what `write_checkpoint` wrote, on the CPU.

    Raises `CorruptFileError` with the path if the file is missing, damaged, of another kind or
    holds weights that are not finite, and, with `digest` given, if it is of another architecture.
    """
    with names_file(path, "checkpoint"):
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if metadata.get("format") != FORMAT:
            raise CorruptFileError(
                f"{path} is not a checkpoint of this program: its format is "
                f"{metadata.get('format')!r} instead of {FORMAT!r}"
            )
        if digest is not None and metadata["digest"] != digest:
            raise CorruptFileError(
                f"{path} holds architecture {metadata['digest'][:12]} instead of {digest[:12]}"
            )
        checkpoint = Checkpoint(
            epochs=float(metadata["epochs"]),
            digest=metadata["digest"],
            weights=_group("weights.", tensors),
            momentum=_group("momentum.", tensors),
            scaler=json.loads(metadata["scaler"]),
            average=_group("average.", tensors),
            train_s=float(metadata.get("train_s", 0.0)),
            energy_j=float(metadata.get("energy_j", math.nan)),
            loss=float(metadata.get("loss", math.nan)),
            classes=tuple(json.loads(metadata.get("classes", "[]"))),
            curve=tuple((epochs, loss) for epochs, loss in json.loads(metadata.get("curve", "[]"))),
        )
        require_finite(path, checkpoint.weights)
        require_finite(path, checkpoint.average)
    return checkpoint


def _group(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names have this prefix, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
