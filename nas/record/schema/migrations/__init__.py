"""The migrations of the schema, one module for each revision.

Alembic runs them with a connection that the caller passes in.
"""
