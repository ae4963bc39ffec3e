"""Measure a model on this machine, beside a bare C loop on the same file."""
