"""The instrument alone, on any network or file: what `nas measure` and `nas doctor` do."""

from nas.instrument.doctor import Finding, findings
from nas.instrument.session import certified, measure, measure_all
from nas.instrument.targets import Target, load_target

__all__ = ["Finding", "Target", "certified", "findings", "load_target", "measure", "measure_all"]
