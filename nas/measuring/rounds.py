"""Several networks in one session. Each is measured once per round, in a new random order, so that
drift affects all of them alike.
"""

import copy
import random
from collections.abc import Iterator, Mapping

from torch import nn

from nas.core.complexity import Size
from nas.core.measurement import Measurement, MeasurementPlan
from nas.measuring.meters import Meter
from nas.measuring.session import certify_targets, measure
from nas.measuring.targets import Target
from nas.model.hooks import Tally, tally

Sessions = Iterator[tuple[str, tuple[Measurement, ...]]]
"""Names with their figures, as soon as they are measured."""


def in_rounds(
    targets: Mapping[str, tuple[Target, MeasurementPlan]], meter: Meter, rounds: int, seed: int
) -> Sessions:
    """Yield every figure of every target, by its name, `rounds` times.

    Raises the errors of `measure`.
    """
    rng = random.Random(seed)
    for _ in range(rounds):
        for name in rng.sample(list(targets), len(targets)):
            yield name, measure(*targets[name], meter)


def in_cycles(targets: Mapping[str, tuple[Target, MeasurementPlan]], meter: Meter) -> Sessions:
    """Yield the certified latency of every target, by its name; targets with the same plan are
    interleaved.

    Raises the errors of `certify_targets`.
    """
    for plan in dict.fromkeys(plan for _, plan in targets.values()):
        names = {target.name: name for name, (target, own) in targets.items() if own == plan}
        figures = certify_targets([targets[name][0] for name in names.values()], plan, meter)
        for target_name, certified in figures.items():
            yield names[target_name], certified


def count_operations(target: Target, image_size: int | Size) -> Tally | None:
    """Count a torch network's cost with forward hooks on a copy without weights; None for an ONNX
    file.
    """
    if not isinstance(target.network, nn.Module):
        return None
    return tally(copy.deepcopy(target.network).to("meta"), image_size)
