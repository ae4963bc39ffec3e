"""Stored conversations: SQLite, search and export."""
