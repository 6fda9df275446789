"""Several networks in one session: each measured once a round, in an order drawn anew, so that
drift hits all alike.
"""

import copy
import random
from collections.abc import Iterator, Mapping

from torch import nn

from nas.core.complexity import Size
from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.session import certified, measure
from nas.measuring.targets import Target
from nas.model.hooks import Tally, tally

Sessions = Iterator[tuple[str, tuple[Measurement, ...]]]
"""Names with their figures, as they come."""


def in_rounds(
    targets: Mapping[str, tuple[Target, MeasurementPlan]], meter: Meter, rounds: int, seed: int
) -> Sessions:
    """Every figure of every target, by its name, `rounds` times. Raises what `measure` raises."""
    rng = random.Random(seed)
    for _ in range(rounds):
        for name in rng.sample(list(targets), len(targets)):
            yield name, measure(*targets[name], meter)


def in_cycles(targets: Mapping[str, tuple[Target, MeasurementPlan]], meter: Meter) -> Sessions:
    """Certified latency of every target, by its name; those with the same plan take turns. Raises
    as `certified`.
    """
    for plan in dict.fromkeys(plan for _, plan in targets.values()):
        names = {target.name: name for name, (target, its) in targets.items() if its == plan}
        found = certified([targets[name][0] for name in names.values()], plan, meter)
        yield from ((names[target], figures) for target, figures in found.items())


def counted(target: Target, image_size: int | Size) -> Tally | None:
    """What a torch network costs, seen by hooks on a copy without weights; None for an ONNX
    file.
    """
    if not isinstance(target.network, nn.Module):
        return None
    return tally(copy.deepcopy(target.network).to("meta"), image_size)
