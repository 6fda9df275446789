"""Where trials run: `local` in this process, `tune` on a Ray cluster."""
