"""Prompt templates: a TOML file each, with `prompt`, `system`, `schema` and settings."""
