"""Search spaces: one module for each `SPACE`, with the reasons for its ranges."""
