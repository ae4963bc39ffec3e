"""Check command lines in documents against the commands and options of the program."""

from __future__ import annotations

import functools
import re

from chat.cli import command_tree, main


@functools.cache
def commands() -> tuple[command_tree.CommandSpec, ...]:
    """The commands of the program."""
    return tuple(command_tree.commands(main.COMMANDS))


def unknown_flags(line: str) -> set[str]:
    """The options in a line `mistral-chat ...` that its command does not take."""
    words = line.split()[1:]
    return {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} - flags_of(command_path(words))


def flags_of(path: list[str]) -> set[str]:
    """The spellings that a command takes; of the program itself for an empty path."""
    if not path:
        return {spelling for flag in command_tree.main_flags() for spelling in flag.spellings}
    [found] = [each for each in commands() if each.name == path[0]]
    for name in path[1:]:
        [found] = [each for each in found.parts if each.name == name]
    return {spelling for flag in found.flags for spelling in flag.spellings}


def command_path(words: list[str]) -> list[str]:
    """The names of the command that begins a line, `models list` for example."""
    [*found] = [each for each in commands() if words[:1] == [each.name]]
    if not found:
        return []
    parts = {part.name for part in found[0].parts}
    assert not parts or words[1] in parts, words
    return words[: 2 if parts else 1]
