"""Batches: many prompts in one file, answered by one backend."""
