"""The design spaces that ship: one module, one `SPACE`, and the reasons for its ranges."""
