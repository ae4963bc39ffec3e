"""Find the file that a model name means, and download it."""

OLLAMA_PREFIX = "ollama:"  # before a name, as `-m` takes it
