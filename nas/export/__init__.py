"""Found networks as files that need nothing of this package: one checked folder, whole or not there."""

from nas.export.bundle import export_bundle
from nas.export.manifest import BundleFile, Check, Manifest

__all__ = ["BundleFile", "Check", "Manifest", "export_bundle"]
