"""The GGUF format: a strict reader, the checks of what a file says, and the encoder of its header."""
