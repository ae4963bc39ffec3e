"""Text for the terminal: Markdown, tables, status lines, and the screen they are written to."""
