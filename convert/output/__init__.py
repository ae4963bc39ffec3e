"""Write the GGUF: its metadata, its tensors, and the verification of the written file."""
