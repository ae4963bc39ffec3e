"""Convert a checkpoint to a quantized GGUF in one pass."""
