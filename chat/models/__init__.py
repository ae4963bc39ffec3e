"""Find the file that a model name means, and download it."""
