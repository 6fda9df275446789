"""One module for each revision. A published revision never changes."""
