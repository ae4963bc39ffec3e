"""The input line: keys, pastes and completion."""
