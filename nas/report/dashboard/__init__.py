"""The live page: the parts of the report, served from a record that is opened for reading only.

FastAPI is imported here only.
"""

from nas.report.dashboard.app import create_app

__all__ = ["create_app"]
