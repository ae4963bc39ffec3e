"""The chat wing: from a conversation to an answer. Shares nothing with `convert` but the GGUF file."""

__version__ = "0.1.0"
