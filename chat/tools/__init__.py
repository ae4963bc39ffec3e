"""Functions that the program runs when a model calls them: what they are, where they come from, which may run."""
