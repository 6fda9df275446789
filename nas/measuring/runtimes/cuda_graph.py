"""A CUDA graph of the network, captured once and replayed without Python and launches."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nas.core.measurement import MeasurementPlan
from nas.measuring.runtimes import Loaded, Runtime
from nas.measuring.runtimes.torch_model import loaded, placed

CALLS_BEFORE_CAPTURE = 3
"""Calls before a CUDA graph is captured, in which cuDNN chooses its algorithms and allocates."""


class GraphRuntime(Runtime):
    """Captures one CUDA graph for each input, all in one memory pool. A call is a replay, and
    nothing is copied.
    """

    def obstacle(self, device_kind: str, plan: MeasurementPlan) -> str | None:
        """Return that it needs an NVIDIA GPU, if the device is none."""
        if device_kind == "cuda":
            return None
        return (
            "runtime graph is a CUDA graph and needs an NVIDIA GPU; on a CPU take eager, compile, "
            "onnxruntime or openvino"
        )

    def load(self, built: nn.Module, inputs: Sequence[Tensor], plan: MeasurementPlan) -> Loaded:
        """Return the captured graphs of a copy of the network."""
        model = placed(built, plan, str(inputs[0].device))
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch leaves it untyped
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(CALLS_BEFORE_CAPTURE):
                model(inputs[0])
        torch.cuda.current_stream().wait_stream(side)
        graphs, outputs, pool = [], [], None
        for each in inputs:
            captured = torch.cuda.CUDAGraph()
            with torch.cuda.graph(captured, pool=pool):
                outputs.append(model(each))
            graphs.append(captured)
            pool = pool or captured.pool()

        def forward(index: int) -> Any:
            graphs[index].replay()
            return outputs[index]

        return loaded(model, forward, plan)


GRAPH = GraphRuntime()
