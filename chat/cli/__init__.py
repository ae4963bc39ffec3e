"""The command line: parsing, help, and one module per command."""
