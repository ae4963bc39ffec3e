"""The options: their types, where their values come from, and which exclude each other."""
