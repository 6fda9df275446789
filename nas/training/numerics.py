"""The number format and memory layout of a training, and which combinations a device can run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from nas.core.errors import InvalidValueError
from nas.core.study import AutoPrecision, TrainingSpec

DTYPES = {
    AutoPrecision.FP32: torch.float32,
    AutoPrecision.BF16: torch.bfloat16,
    AutoPrecision.FP16: torch.float16,
}


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """How a training computes; fixed for a study, since results depend on it. Weights are fp32 in
    any case.
    """

    precision: AutoPrecision = AutoPrecision.FP32
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", AutoPrecision(self.precision))
        if self.precision is AutoPrecision.AUTO:
            raise InvalidValueError("precision must be fp32, bf16 or fp16 here, not auto")

    @property
    def dtype(self) -> torch.dtype:
        """Of activations under autocast."""
        return DTYPES[self.precision]

    @property
    def memory_format(self) -> torch.memory_format:
        """Of images, activations and kernels."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        """The context to compute the network's outputs in."""
        return torch.autocast(
            device.type, self.dtype, enabled=self.precision is not AutoPrecision.FP32
        )

    def prepared(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model on the device in this layout; changes the model itself."""
        return model.to(device=device, memory_format=self.memory_format)  # type: ignore[call-overload, no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "precision": str(self.precision)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Numerics":
        """What `to_dict` wrote."""
        return cls(**values)


def candidates(spec: TrainingSpec, device: torch.device) -> list[Numerics]:
    """The numerics that the spec leaves open on this device, at least one.

    Raises `InvalidValueError` for fp16 without CUDA: its loss scaling is only useful there.
    """
    if spec.precision is AutoPrecision.AUTO:
        precisions = _precisions(device)
    elif spec.precision is AutoPrecision.FP16 and device.type != "cuda":
        raise InvalidValueError(
            f"training.precision fp16 needs a CUDA device, not {device.type}; "
            f"take bf16, fp32 or auto"
        )
    else:
        precisions = [spec.precision]
    layouts = [True, False] if spec.channels_last is None else [spec.channels_last]
    return [
        Numerics(precision=precision, channels_last=layout, compile=spec.compile)
        for precision in precisions
        for layout in layouts
    ]


def _precisions(device: torch.device) -> list[AutoPrecision]:
    if device.type == "cpu":
        return [AutoPrecision.FP32, AutoPrecision.BF16]
    if device.type != "cuda":
        return [AutoPrecision.FP32]
    bf16 = [AutoPrecision.BF16] if torch.cuda.is_bf16_supported(including_emulation=False) else []
    return [AutoPrecision.FP32, *bf16, AutoPrecision.FP16]
