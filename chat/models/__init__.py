"""Which model file: catalogue, download, and the check of what a name leads to."""
