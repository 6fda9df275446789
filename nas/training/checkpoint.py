"""A network in training as one safetensors file: weights, momentum, and how far it is.

Written beside its place and renamed, so a file under its name is whole. Safetensors hold numbers
only: reading one runs no code.
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

FORMAT = "osa-nas training 1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network after `epochs`: `weights` is its state dict, `momentum` one buffer for each
    parameter that has one.

    `digest` names the architecture; `scaler` is the state of fp16's loss scaler, empty without.
    `average` is the running mean of the state dict where there is one; `train_s` and `energy_j` are
    the seconds and the joules that training took so far, `loss` is the last mean loss; NaN where
    nobody kept it.
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


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it to `path`, whole or not at all. Raises `WriteError` where that fails (a full
    disk).
    """
    tensors = {f"weights.{name}": value.contiguous() for name, value in checkpoint.weights.items()}
    tensors |= {
        f"momentum.{name}": value.contiguous() for name, value in checkpoint.momentum.items()
    }
    tensors |= {f"average.{name}": value.contiguous() for name, value in checkpoint.average.items()}
    metadata = {
        "format": FORMAT,
        "epochs": repr(float(checkpoint.epochs)),
        "digest": checkpoint.digest,
        "scaler": json.dumps(dict(checkpoint.scaler)),
        "train_s": repr(float(checkpoint.train_s)),
        "energy_j": repr(float(checkpoint.energy_j)),
        "loss": repr(float(checkpoint.loss)),
    }
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
    """What `write_checkpoint` wrote, on the CPU.

    Raises `CorruptFileError` with the path where the file is missing, damaged, of another kind, or,
    with `digest` given, of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise CorruptFileError(f"{path} is not a readable checkpoint: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CorruptFileError(
            f"{path} is no checkpoint of this program: its format is "
            f"{metadata.get('format')!r} instead of {FORMAT!r}"
        )
    if digest is not None and metadata["digest"] != digest:
        raise CorruptFileError(
            f"{path} holds architecture {metadata['digest'][:12]} instead of {digest[:12]}"
        )
    return Checkpoint(
        epochs=float(metadata["epochs"]),
        digest=metadata["digest"],
        weights=_under("weights.", tensors),
        momentum=_under("momentum.", tensors),
        scaler=json.loads(metadata["scaler"]),
        average=_under("average.", tensors),
        train_s=float(metadata.get("train_s", 0.0)),
        energy_j=float(metadata.get("energy_j", math.nan)),
        loss=float(metadata.get("loss", math.nan)),
    )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
