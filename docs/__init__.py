"""The documentation: pages in `pages/`, and the reference that `generate/` makes from the program."""
