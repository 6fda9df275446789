"""`torch.compile`, with the code of inductor: C++ on a CPU, Triton on a GPU."""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.core.measurement import MeasurementPlan
from nas.measuring.runtimes import PRECISIONS, Loaded, Runtime, settings_of
from nas.measuring.runtimes.torch_model import loaded, memory_format, placed
from nas.model.compiling import Compiled


@dataclass(frozen=True, kw_only=True)
class CompiledNetwork:
    """A network on its device, compiled for the plan's shape."""

    model: nn.Module
    compiled: Compiled


class CompileRuntime(Runtime):
    """Compiles the network as one graph, for the plan's shape.

    Inductor keeps its code on disk by a digest of the graph, so that an equal network is compiled
    once. Raises `UnavailableError` if torch does not compile it.
    """

    one_copy = True

    def obstacle(self, device_kind: str, plan: MeasurementPlan) -> str | None:
        """Return what the compiler lacks."""
        missing = _missing_on_gpu() if device_kind == "cuda" else _missing_on_cpu()
        device = "a GPU" if device_kind == "cuda" else "a CPU"
        return f"torch.compile on {device} needs {missing}" if missing else None

    def build(self, network: nn.Module, plan: MeasurementPlan, device: str) -> CompiledNetwork:
        """Compile a copy of the network on the device."""
        model = placed(network, plan, device)
        compiled = Compiled(model, dynamic=False)
        shape = (plan.batch_size, 3, plan.image_size, plan.image_size)
        with settings_of(plan), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they concern the compiler's own code
            images = torch.zeros(shape, device=device, dtype=PRECISIONS[plan.precision])
            compiled(images.to(memory_format=memory_format(plan)))
        return CompiledNetwork(model=model, compiled=compiled)

    def load(
        self, built: CompiledNetwork, inputs: Sequence[Tensor], plan: MeasurementPlan
    ) -> Loaded:
        """Return the compiled network with these inputs."""
        function = built.compiled.function
        return loaded(built.model, lambda index: function(inputs[index]), plan)


def _missing_on_cpu() -> str:
    """Return what to install for the C++ code, empty if all is there."""
    if shutil.which(os.environ.get("CXX", "g++")):
        return ""
    return "a C++ compiler: install g++"


def _missing_on_gpu() -> str:
    """Return what to install, empty if all is there. Triton compiles the kernels, and compiles
    their launchers with a C compiler.
    """
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    missing = []
    if importlib.util.find_spec("triton") is None:
        missing.append("the package triton")
    if not any(map(shutil.which, names)):
        missing.append("a C compiler (gcc)")
    return " and ".join(missing)


COMPILE = CompileRuntime()
