"""How the tables came about, one module for each revision. Run by Alembic with a connection that is
passed in.
"""
