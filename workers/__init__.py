"""Workers that run trials: `local` in this process, `tune` on a Ray cluster."""
