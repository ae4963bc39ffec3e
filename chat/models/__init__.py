"""Which model file: download, and the check of what a name leads to."""
