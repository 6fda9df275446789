"""The search: a pure brain that decides, and an engine that records what was decided."""
