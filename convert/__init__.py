"""The conversion wing: from a checkpoint to a quantized GGUF, in one pass. Shares only the GGUF file with `chat`."""
