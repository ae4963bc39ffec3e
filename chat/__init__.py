"""A local chat program for Mistral models: everything but the conversion, which is the package `convert`."""

__version__ = "0.2.0"
