"""The options: their types, where their values come from, and which cannot be used together."""
