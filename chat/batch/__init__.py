"""Batches: many prompts in, one JSON line out for each, in order."""
