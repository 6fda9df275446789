"""Networks under `torch.compile`, without its silent returns to eager execution."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.errors import UnavailableError


class Compiled:
    """A network that `torch.compile` compiles as one graph at its first call.

    Dynamo keeps what it compiled with the code of the function that was called, and after eight
    entries it runs this code eagerly, with a line in the log only. All networks share the code of
    `forward`. Therefore each is called by a function with code of its own. With `fullgraph`, a part
    that cannot be compiled and a ninth entry of one network are errors.
    """

    def __init__(self, model: nn.Module, *, dynamic: bool | None = None) -> None:
        def network(images: Tensor) -> Any:
            return model(images)

        network.__code__ = network.__code__.replace()  # an equal object, but another one
        self._code = network.__code__
        self._checked = False
        self.function: Callable[[Tensor], Any] = torch.compile(
            network, fullgraph=True, dynamic=dynamic
        )

    def __call__(self, images: Tensor) -> Any:
        """Return the network's output. Raises `UnavailableError` if nothing was compiled."""
        output = self.function(images)
        if not self._checked:
            self._check()
        return output

    def _check(self) -> None:
        entries = torch._C._dynamo.eval_frame._debug_get_cache_entry_list(self._code)  # noqa: SLF001 - no public way
        if not entries:
            raise UnavailableError(
                "torch.compile ran the network without compiling it; unset TORCHDYNAMO_DISABLE "
                "and TORCH_COMPILE_DISABLE"
            )
        self._checked = True
