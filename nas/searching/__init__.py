"""The search: a pure state that decides, and an engine that records each decision."""
