"""Tensor types: which tensor gets which, and the packing of float rows into ggml blocks."""
