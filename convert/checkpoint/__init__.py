"""Open checkpoint files: safetensors and PyTorch, mapped and checked."""
