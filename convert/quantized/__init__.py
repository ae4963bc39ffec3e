"""Checkpoints that were quantized before they came here: their numbers as float rows again, one module per scheme."""
