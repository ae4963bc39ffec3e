"""The terminal session."""
