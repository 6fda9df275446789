"""The live page: the report's parts served from a record that is only read. The only home of
FastAPI.
"""

from nas.report.dashboard.app import create_app

__all__ = ["create_app"]
