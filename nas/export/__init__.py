"""Export a network as a bundle: one folder of checked files that do not need this package."""

from nas.export.bundle import export_bundle
from nas.export.manifest import Check, Manifest
from nas.export.programs import feature_names
from nas.export.trial import export_trial, holds_trial
from nas.export.verify import Bundle, Verification, verify_bundle

__all__ = [
    "Bundle",
    "Check",
    "Manifest",
    "Verification",
    "export_bundle",
    "export_trial",
    "feature_names",
    "holds_trial",
    "verify_bundle",
]
