"""The commands of the terminal session, `/help` and the others."""
