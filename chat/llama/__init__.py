"""Bindings to llama.cpp: models, contexts, sampling, tokenizers, devices, memory. Nothing else calls its C API."""
