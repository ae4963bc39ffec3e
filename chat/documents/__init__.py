"""What `-f` and `/file` attach: files, documents, folders, web pages and the output of commands, as text."""
