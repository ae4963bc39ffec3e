"""The conversion wing: from a checkpoint to a quantized GGUF, in one pass. Shares nothing with `chat` but the GGUF file."""
