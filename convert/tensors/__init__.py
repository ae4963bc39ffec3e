"""A checkpoint's tensors under the names, shapes and row orders of the GGUF."""
