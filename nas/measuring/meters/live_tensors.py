"""Peak memory of live tensors during a call, followed operation by operation.

Every tensor that an operation returns is followed until it is freed. Tensors that share storage
(views, in-place operations) count once. Scratch memory that a kernel allocates and frees inside one
operation is not seen. Therefore the figure does not depend on the processor's kernels, and for
plain networks it can be computed by hand.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def peak_live_bytes(run: Callable[[], object]) -> int:
    """Return the most bytes of tensors made by `run` that are alive at once."""
    follow = _Follow()
    with follow:
        result = run()
    del result
    return follow.peak_bytes


class _Follow(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch leaves it untyped
    """Counts the storages of all tensors that operations return."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._holders: Counter[int] = Counter()
        self._before: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        keywords = kwargs or {}
        with self:  # inference mode passes composite operations undivided: look inside them
            parts = func.decompose(*args, **keywords)
        if parts is not NotImplemented:
            return parts
        inputs = [_address(tensor) for tensor in _tensors((args, keywords))]
        self._before.update(address for address in inputs if not self._holders[address])
        result = func(*args, **keywords)
        for tensor in _tensors(result):
            self._follow(tensor)
        return result

    def _follow(self, tensor: torch.Tensor) -> None:
        address, size = _address(tensor), tensor.untyped_storage().nbytes()
        if not address or address in self._before:
            return
        if not self._holders[address]:
            self.live_bytes += size
            self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self._holders[address] += 1
        weakref.finalize(tensor, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            self.live_bytes -= size


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Yield all tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for part in value:
            yield from _tensors(part)
