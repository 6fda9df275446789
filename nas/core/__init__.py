"""The pure core: what a study is and what decides in it. One noun per module, and no framework."""
