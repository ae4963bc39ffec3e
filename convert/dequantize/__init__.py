"""Checkpoints that are already quantized: their weights as float rows again, one module per scheme."""
