"""The number format and memory layout of a training, and which combinations a device can run."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from nas.core.errors import InvalidValueError
from nas.core.study import AutoPrecision, TrainingSpec
from nas.model.torch_settings import cpu_threads, cudnn_algorithms, tf32

DTYPES = {
    AutoPrecision.FP32: torch.float32,
    AutoPrecision.BF16: torch.bfloat16,
    AutoPrecision.FP16: torch.float16,
}
"""The type of activations for each precision."""

NEEDS_CUDA = frozenset({AutoPrecision.TF32, AutoPrecision.FP16})
"""Precisions for NVIDIA GPUs only: TF32 is theirs, and loss scaling for fp16 is only useful there.
"""

TF32_CAPABILITY = (8, 0)
"""The first compute capability (Ampere) with TF32."""


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """The number format of a training. It is fixed for a study, since results depend on it.

    Weights are fp32 in any case. `conv_tf32` allows TF32 in convolutions that are computed in fp32
    on a GPU; matrix products, of which there is one in the classifier, are always IEEE fp32.
    """

    precision: AutoPrecision = AutoPrecision.FP32
    channels_last: bool = True
    compile: bool = False
    conv_tf32: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "precision", AutoPrecision(self.precision))
        if self.precision not in DTYPES:
            raise InvalidValueError(
                f"precision must be fp32, bf16 or fp16 here, not {self.precision}; tf32 is fp32 "
                "with conv_tf32"
            )

    @property
    def dtype(self) -> torch.dtype:
        """The type of activations under autocast."""
        return DTYPES[self.precision]

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of images, activations and kernels."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> torch.autocast:
        """Return the context to compute the network's outputs in."""
        return torch.autocast(
            device.type, self.dtype, enabled=self.precision is not AutoPrecision.FP32
        )

    @contextlib.contextmanager
    def settings(self, threads: int | None = None) -> Iterator[None]:
        """Set what torch keeps globally and results depend on, and restore it afterwards.

        cuDNN takes deterministic algorithms only. `threads` is the number of CPU threads; None
        leaves it.
        """
        with (
            cpu_threads(threads or torch.get_num_threads()),
            cudnn_algorithms(deterministic=True, benchmark=False),
            tf32(convolutions=self.conv_tf32, matmuls=False),
        ):
            yield

    def prepared(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Move the model itself to the device in this layout and return it."""
        return model.to(device=device, memory_format=self.memory_format)  # type: ignore[call-overload, no-any-return]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "precision": str(self.precision)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Numerics":
        """Return the numerics that `to_dict` wrote.

        Records without `conv_tf32` are of trainings by torch's default, which allows it.
        """
        return cls(**{"conv_tf32": True, **values})


def candidates(spec: TrainingSpec, device: torch.device) -> list[Numerics]:
    """Return the numerics that the spec leaves open on this device, at least one.

    Raises `InvalidValueError` for tf32 and fp16 without CUDA.
    """
    if spec.precision in NEEDS_CUDA and device.type != "cuda":
        raise InvalidValueError(
            f"training.precision {spec.precision} needs a CUDA device, not {device.type}; "
            "take bf16, fp32 or auto"
        )
    precisions = [spec.precision]
    if spec.precision is AutoPrecision.AUTO:
        precisions = _precisions(device)
    layouts = [True, False] if spec.channels_last is None else [spec.channels_last]
    return [
        Numerics(
            precision=AutoPrecision.FP32 if precision is AutoPrecision.TF32 else precision,
            channels_last=layout,
            compile=spec.compile,
            conv_tf32=precision is AutoPrecision.TF32,
        )
        for precision in precisions
        for layout in layouts
    ]


def _precisions(device: torch.device) -> list[AutoPrecision]:
    """Return the precisions that `auto` chooses from, the widest first."""
    if device.type == "cpu":
        return [AutoPrecision.FP32, AutoPrecision.BF16]
    if device.type != "cuda":
        return [AutoPrecision.FP32]
    ampere = torch.cuda.get_device_capability(device) >= TF32_CAPABILITY
    precisions = [AutoPrecision.TF32 if ampere else AutoPrecision.FP32]
    if torch.cuda.is_bf16_supported(including_emulation=False):
        precisions.append(AutoPrecision.BF16)
    return [*precisions, AutoPrecision.FP16]
