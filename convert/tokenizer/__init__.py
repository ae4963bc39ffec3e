"""Read the tokenizer of a checkpoint as the vocabulary of a GGUF."""
