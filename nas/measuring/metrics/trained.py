"""Metrics that come from training."""

from nas.core.measurement import Kind
from nas.measuring.metrics import Metric, Phase

ERROR = Metric(name="error", unit="1", kind=Kind.MEASURED, phase=Phase.TRAINED)
"""Share of wrong answers on the validation images, measured at a trial's last rung."""
