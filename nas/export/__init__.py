"""Found networks as files that need nothing of this package: one checked folder, whole or not there."""

from nas.export.bundle import export_bundle
from nas.export.manifest import BundleFile, Check, Manifest
from nas.export.trial import export_trial

__all__ = ["BundleFile", "Check", "Manifest", "export_bundle", "export_trial"]
