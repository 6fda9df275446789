"""PyTorch, operation by operation."""

from collections.abc import Sequence

from torch import Tensor, nn

from nas.core.measurement import MeasurementPlan
from nas.measuring.runtimes import Loaded, Runtime
from nas.measuring.runtimes.torch_model import loaded, placed


class EagerRuntime(Runtime):
    """Runs the network operation by operation."""

    def load(self, built: nn.Module, inputs: Sequence[Tensor], plan: MeasurementPlan) -> Loaded:
        """Return a copy of the network with these inputs."""
        model = placed(built, plan, str(inputs[0].device))
        return loaded(model, lambda index: model(inputs[index]), plan)


EAGER = EagerRuntime()
