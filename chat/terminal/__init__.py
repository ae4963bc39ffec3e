"""The terminal session: keys in, rendered answers out. Knows events, not models."""
