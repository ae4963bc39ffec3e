"""Files, folders, streams, signals and text of the operating system and the terminal."""
