"""`modelled_energy`: joules per image by arithmetic, for devices whose energy cannot be measured.
It is never a measurement.

Energy of operations and memories in 45 nm at 0.9 V from Horowitz ("Computing's energy problem",
ISSCC 2014): a multiplication and an addition, 8 bytes to or from an 8 kB SRAM, a byte from DRAM. A
network costs

    MACs * e_mac + weight bytes / batch * e_dram + activation bytes read and written * e_sram

This assumes that activations stay on the chip and that weights are read once for each batch. bf16
is charged as fp16, tf32 as fp32. Absolute values are several times off on any real device, and
nothing is charged for time. The model only orders networks by the data that they move.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nas.core.architecture import Architecture
from nas.core.complexity import layers
from nas.core.measurement import Kind, Measurement, Precision
from nas.measuring.metrics import Metric, Phase, Subject
from nas.model.hooks import tally

MODEL = "horowitz2014-45nm/1"
"""Name of the model, stored with every figure."""
DRAM_J = 160e-12
"""Joules for each byte from DRAM."""
SRAM_J = 10e-12 / 8
"""Joules for each byte to or from SRAM."""


@dataclass(frozen=True)
class _Format:
    """A number format: bytes of a value, and joules of a multiplication with the addition
    after it.
    """

    size: int
    mac_j: float


_SINGLE, _HALF = _Format(4, 3.7e-12 + 0.9e-12), _Format(2, 1.1e-12 + 0.4e-12)
FORMATS: Mapping[Precision, _Format] = {
    Precision.FP32: _SINGLE,
    Precision.TF32: _SINGLE,
    Precision.FP16: _HALF,
    Precision.BF16: _HALF,
}
"""The format that each precision is charged as."""


def _modelled_energy(subject: Subject) -> Measurement:
    plan = subject.plan
    number = FORMATS[plan.precision]
    macs, weights, moved = _operations(subject)
    energy_j = (
        macs * number.mac_j
        + weights * number.size / plan.batch_size * DRAM_J
        + (moved - weights) * number.size * SRAM_J
    )
    return Measurement(
        metric="modelled_energy",
        unit="J",
        value=energy_j,
        kind=Kind.MODELLED,
        method=MODEL,
        plan=plan,
    )


def _operations(subject: Subject) -> tuple[int, int, int]:
    """Return the MACs, the elements of kernels, and the memory access cost."""
    network, size = subject.architecture, subject.plan.image_size
    if not isinstance(network, Architecture):
        sums = tally(subject.model, size)
        return sums.macs, sums.weights, sums.memory_access_cost
    all_layers = list(layers(network, size, subject.num_classes))
    return (
        sum(layer.macs for layer in all_layers),
        sum(layer.weights for layer in all_layers),
        sum(layer.memory_access_cost for layer in all_layers),
    )


MODELLED_ENERGY = Metric(
    name="modelled_energy",
    unit="J",
    kind=Kind.MODELLED,
    phase=Phase.COUNTED,
    measure=_modelled_energy,
)
