"""Measure a model on this machine, beside a plain loop of llama.cpp's C API on the same file."""
