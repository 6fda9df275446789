"""Looking at a study: drawings, tables, pages."""
