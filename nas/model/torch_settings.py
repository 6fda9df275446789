"""Global settings of torch that figures and trainings depend on, set for a while and restored."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch

T = TypeVar("T")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether torch found too little memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextlib.contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with this many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def cudnn_algorithms(*, deterministic: bool, benchmark: bool) -> Iterator[None]:
    """Let cuDNN use only algorithms that give the same bits each time (`deterministic`), and time
    the algorithms at the first call of a shape to take the fastest (`benchmark`).
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextlib.contextmanager
def tf32(*, convolutions: bool, matmuls: bool) -> Iterator[None]:
    """Allow or forbid TF32, NVIDIA's float32 with a mantissa of 10 bits, in the multipliers of
    convolutions and of matrix products. By default torch allows it in convolutions only.
    """
    before = _Tf32.now()
    _Tf32(
        old_matmul="high" if matmuls else "highest",
        old_cudnn=convolutions,
        new=(_word(matmuls), _word(convolutions), _word(convolutions)),
    ).set()
    try:
        yield
    finally:
        before.set()


def _word(allowed: bool) -> str:
    return "tf32" if allowed else "ieee"


@dataclass(frozen=True, kw_only=True)
class _Tf32:
    """The state of both interfaces that torch has to these switches.

    A reader of the old interface raises when only the new one was set. `torch.export`, inductor
    and `cudnn.flags()` read the old one, therefore both are set and agree.
    """

    old_matmul: str | None
    """The precision of matrix products, None if the old interface cannot be read."""
    old_cudnn: bool | None
    """True if convolutions use TF32, None if the old interface cannot be read."""
    new: tuple[str, ...]
    """The precisions of matrix products, convolutions, recurrent layers and, if saved before, of
    matrix products on the CPU.
    """

    @classmethod
    def now(cls) -> Self:
        """Return the present state."""
        return cls(
            old_matmul=_readable(torch.get_float32_matmul_precision),
            old_cudnn=_readable(lambda: torch.backends.cudnn.allow_tf32),
            new=tuple(switch.fp32_precision for switch in _switches()),
        )

    def set(self) -> None:
        """Make this the present state. The old interface comes first, as it sets the new one."""
        with warnings.catch_warnings():
            # torch 2.9 advises against the old interface
            warnings.filterwarnings("ignore", message="Please use the new API settings")
            if self.old_matmul is not None:
                torch.set_float32_matmul_precision(self.old_matmul)
            if self.old_cudnn is not None:
                torch.backends.cudnn.allow_tf32 = self.old_cudnn
            for switch, precision in zip(_switches(), self.new, strict=False):
                switch.fp32_precision = precision


def _switches() -> list[Any]:
    """Return the switches of the new interface, for which torch has no type stubs."""
    backends: Any = torch.backends
    return [
        backends.cuda.matmul,
        backends.cudnn.conv,
        backends.cudnn.rnn,
        backends.mkldnn.matmul,
    ]


def _readable(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except RuntimeError:  # the interfaces disagree
        return None
