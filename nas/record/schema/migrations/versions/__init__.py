"""One module for each revision. A published one never changes."""
